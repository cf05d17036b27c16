"""Federations whose speed is measured: a small network, a convolutional one, an LSTM.

Values are random and of no meaning; sizes are those of the paper's experiments, or
tiny, to try a program.

Shapes: C clients, B samples a batch.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import fedasync_jax as fa
from benchmarks.ceilings import Federation
from fedasync_jax.base import Array, Model
from fedasync_jax.models.cnn import max_pool

_WIDTHS = (1, 4, 8, 16, 32, 128, 512)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CNNSizes:
    """An image classifier: blocks of two 3x3 convolutions and a 2x2 maximum."""

    num_clients: int = 100
    samples: int = 500
    """Images of a client."""
    image: int = 24
    """Pixels a side, of three colors."""
    features: tuple[int, ...] = (64, 128)
    """Channels of the blocks."""
    num_classes: int = 10
    batch_size: int = 50
    num_steps: int = 10
    step_size: float = 0.01
    concurrency: int = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMSizes:
    """A language model: embedding, LSTM layers, the embedding again."""

    num_clients: int = 100
    samples: int = 10
    """Pieces of ``bptt`` tokens that each of a client's texts has."""
    vocab_size: int = 33278
    width: int = 200
    """Of the embedding and of every layer."""
    num_layers: int = 2
    dropout: float = 0.2
    batch_size: int = 20
    """Texts side by side."""
    bptt: int = 35
    num_steps: int = 2
    step_size: float = 20.0
    max_norm: float = 0.25
    """Longest gradient."""
    concurrency: int = 16


TINY_CNN = CNNSizes(
    num_clients=4, samples=4, image=8, features=(4, 8), batch_size=4, concurrency=4
)
TINY_LSTM = LSTMSizes(
    num_clients=4, vocab_size=50, width=8, batch_size=2, bptt=5, concurrency=4
)


class BenchmarkJob(NamedTuple):
    """A federation, and what its ceilings and rivals must know.

    Attributes:
      federation: arguments of ``fedasync_jax.run``.
      clients: the data, as the worker has it.
      loop_widths: of the fused loops that can be the ceiling.
      host_loop: whether a call per task can be it.
      samples: of a task, over all its steps; texts of the language model.
      sizes: None: no other framework has this job.
    """

    federation: Federation
    clients: fa.base.ClientData
    loop_widths: Sequence[int]
    host_loop: bool
    samples: int
    sizes: CNNSizes | LSTMSizes | None = None


def make_mlp_job(
    num_updates: int, seed: int, num_clients: int = 100, concurrency: int = 100
) -> BenchmarkJob:
    """Make clients with 18 of 1800 samples each for a 64-64-10 network."""
    num_samples, num_steps = 1800, 5
    rng = np.random.default_rng(seed)
    arrays = {
        "x": rng.normal(size=(num_samples, 64)).astype(np.float32),
        "y": rng.integers(10, size=num_samples).astype(np.int32),
    }
    partition = fa.data.with_replacement(
        num_samples, num_clients, samples_per_client=18, rng=rng
    )
    clients = jax.device_put(fa.data.make_client_data(arrays, partition))
    model = fa.models.make_classifier("mlp", (64,), 10, hidden=(64,))
    local_update = fa.make_local_update(
        model, clients, optax.sgd(0.05), batch_size=10, max_steps=num_steps
    )
    trace = _simulate(
        num_clients, min(concurrency, num_clients), num_updates, num_steps, rng
    )
    federation = _federate(model, local_update, trace, seed)
    return BenchmarkJob(
        federation, clients, _WIDTHS, host_loop=False, samples=10 * num_steps
    )


def make_cnn_job(
    num_updates: int, seed: int, sizes: CNNSizes, convolution: fa.models.Convolution
) -> BenchmarkJob:
    """Make clients with images in bytes, all of one size, and a worker for them."""
    rng = np.random.default_rng(seed)
    num_images = sizes.num_clients * sizes.samples
    shape = (num_images, sizes.image, sizes.image, 3)
    arrays = {
        "x": rng.integers(256, size=shape, dtype=np.uint8),
        "y": rng.integers(sizes.num_classes, size=num_images).astype(np.int32),
    }
    clients = fa.data.make_client_data(
        arrays, fa.data.iid(num_images, sizes.num_clients, rng=rng)
    )
    module = PlainCNN(sizes.features, sizes.num_classes, convolution.fn)
    model = fa.models.from_linen(module, jnp.zeros((1, *shape[1:]), jnp.uint8))
    local_update = fa.make_local_update(
        model,
        clients,
        optax.sgd(sizes.step_size),
        batch_size=sizes.batch_size,
        max_steps=sizes.num_steps,
        unroll=convolution.unroll,
    )
    trace = _simulate_sizes(sizes, num_updates, rng)
    federation = _federate(model, local_update, trace, seed)
    # In a loop of XLA's a convolution is up to 70 times slower on a CPU.
    widths = () if convolution.unroll else _WIDTHS
    samples = sizes.batch_size * sizes.num_steps
    return BenchmarkJob(federation, clients, widths, True, samples, sizes)


def make_lstm_job(num_updates: int, seed: int, sizes: LSTMSizes) -> BenchmarkJob:
    """Make clients with texts and a worker for them."""
    rng = np.random.default_rng(seed)
    num_rows = sizes.num_clients * sizes.samples
    shape = (num_rows, sizes.bptt, sizes.batch_size)
    arrays = {
        name: rng.integers(sizes.vocab_size, size=shape).astype(np.int32)
        for name in ("x", "y")
    }
    clients = fa.data.make_client_data(
        arrays, fa.data.iid(num_rows, sizes.num_clients, rng=rng)
    )
    model = fa.models.make_lstm_lm(
        sizes.vocab_size,
        embed=sizes.width,
        hidden=sizes.width,
        num_layers=sizes.num_layers,
        dropout=sizes.dropout,
        batch_size=sizes.batch_size,
    )
    local_update = fa.make_local_update(
        model,
        clients,
        optax.chain(
            optax.clip_by_global_norm(sizes.max_norm), optax.sgd(sizes.step_size)
        ),
        batch_size=1,
        max_steps=sizes.num_steps,
    )
    trace = _simulate_sizes(sizes, num_updates, rng)
    federation = _federate(model, local_update, trace, seed)
    on_cpu = jax.default_backend() == "cpu"
    widths = (1,) if on_cpu else _WIDTHS
    samples = sizes.batch_size * sizes.num_steps
    return BenchmarkJob(federation, clients, widths, True, samples, sizes)


class PlainCNN(nn.Module):
    """Blocks of two 3x3 convolutions with ReLU and a 2x2 maximum, then one dense layer.

    Attributes:
      features: channels of the blocks.
      num_classes: K.
      conv_general_dilated: see ``fedasync_jax.models.CNN``.
    """

    features: tuple[int, ...]
    num_classes: int
    conv_general_dilated: Callable[..., Array]

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Return logits [B, K] of images, bytes [B, H, W, 3]."""
        del train
        x = x.astype(jnp.float32) / 128 - 1
        for channels in self.features:
            x = nn.relu(self._convolve(x, channels))
            x = max_pool(nn.relu(self._convolve(x, channels)))
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))

    def _convolve(self, x: Array, channels: int) -> Array:
        fn = self.conv_general_dilated
        return nn.Conv(channels, (3, 3), conv_general_dilated=fn)(x)


def _simulate_sizes(
    sizes: CNNSizes | LSTMSizes, num_updates: int, rng: np.random.Generator
) -> fa.schedule.Trace:
    return _simulate(
        sizes.num_clients, sizes.concurrency, num_updates, sizes.num_steps, rng
    )


def _simulate(
    num_clients: int,
    concurrency: int,
    num_updates: int,
    num_steps: int,
    rng: np.random.Generator,
) -> fa.schedule.Trace:
    return fa.simulate(
        fa.make_fleet(num_clients, rng=rng, task_law=fa.fleet.uniform(0.5, 1.5)),
        num_updates,
        scheduler=fa.Immediate(concurrency),
        num_steps=num_steps,
        rng=rng,
    )


def _federate(
    model: Model, local_update: fa.base.LocalUpdate, trace: fa.schedule.Trace, seed: int
) -> Federation:
    mixer = fa.mixing.fedasync(0.6, fa.staleness.polynomial(0.5))
    init_key, key = jax.random.split(jax.random.key(seed))
    return Federation(trace, local_update, mixer, model.init(init_key), key)
