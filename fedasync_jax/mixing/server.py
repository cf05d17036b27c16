"""A server that has an optimizer: it takes the mean change as its gradient.

g = -(1/K) sum_i s(d_i) Delta_i, x <- x + update(g), Delta_i = y_i - x_tau_i.

Reference: Reddi et al., "Adaptive Federated Optimization" (FedOpt), ICLR 2021, arXiv
2003.00295, Algorithm 1, made asynchronous as FedBuff is. The form is sure; no paper
fixes the defaults.
"""

import functools
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import numpy as np
import optax

from fedasync_jax import tree
from fedasync_jax.base import Array, Mixer, PyTree, Schedule, StalenessFn
from fedasync_jax.mixing.buffer import (
    Buffer,
    BufferSize,
    check_size,
    empty,
    join,
    put_in,
    split,
)
from fedasync_jax.mixing.by_weight import (
    MixWeighted,
    WeightedArrival,
    make_weighted_rule,
    scale_by,
)
from fedasync_jax.parts.bounds import Bounds, above, one_of
from fedasync_jax.parts.registry import checked

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda step, momentum, eps: optax.sgd(step),
    "momentum": lambda step, momentum, eps: optax.sgd(step, momentum),
    "adam": lambda step, momentum, eps: optax.adam(step, b1=momentum, eps=eps),
}


class ServerState(NamedTuple):
    """State of a server with an optimizer.

    Attributes:
      buffer: changes that were collected.
      optimizer: its state.
    """

    buffer: Buffer
    optimizer: PyTree


def server(
    optimizer: optax.GradientTransformation,
    size: int = 1,
    staleness_fn: StalenessFn | None = None,
) -> Mixer:
    r"""Return the rule that hands -(1/K) sum s(d_i) (y_i - x_tau_i) to an optimizer.

    .. math::

        g = -\frac{1}{K} \sum_i s(d_i) (y_i - x_{\tau_i}),
        \quad x \leftarrow x + \text{update}(g)

    Of ``Variables``, only the trainable parameters see it; to the rest, such as running
    statistics, the mean change is added as it is.

    Args:
      optimizer: any optax transformation, such as ``optax.adam(0.01)``. Its numbers are
        part of the compiled program; those of ``server_optimizer`` are not.
      size: arrivals that make one step (K), >= 1.
      staleness_fn: s(d); default: (1 + d)^(-1/2).

    Raises:
      ValueError: if ``size`` is below 1 or, of a schedule, larger than its number of
        updates.
    """
    return _make_server(lambda: optimizer, (), size, staleness_fn)


@checked
def server_optimizer(
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = "momentum",
    step: Annotated[float, above(0)] = 0.1,
    momentum: Annotated[float, Bounds(0, 1, open_high=True)] = 0.9,
    eps: Annotated[float, above(0)] = 1e-3,
    size: BufferSize = 1,
    staleness_fn: StalenessFn | None = None,
) -> Mixer:
    """Return ``server`` with an optimizer by its name.

    Args:
      optimizer: name of the server's optimizer: sgd, momentum or adam.
      step: step size of that optimizer, > 0.
      momentum: momentum; with adam, the decay of the first moment.
      eps: number that adam adds to the root of the second moment.
      size: arrivals that make one step (K).
      staleness_fn: s(d); default: (1 + d)^(-1/2).

    Raises:
      ValueError: if a setting is out of range.
    """
    if size < 1:
        raise ValueError(f"size must be >= 1, got {size}")
    numbers = tuple(np.float32(number) for number in (step, momentum, eps))
    return _make_server(OPTIMIZERS[optimizer], numbers, size, staleness_fn)


def _make_server(
    make: Callable[..., optax.GradientTransformation],
    numbers: tuple,
    size: int,
    staleness_fn: StalenessFn | None,
) -> Mixer:
    if size < 1:
        raise ValueError(f"size must be >= 1, got {size}")

    def init(model: PyTree) -> ServerState:
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            optimizer = make(*numbers).init(tree.widen(split(model)[0]))
        return ServerState(empty(model), optimizer)

    return make_weighted_rule(
        _step_with(make),
        scale_by(1 / size, staleness_fn, 0.5),
        init,
        numbers=(np.int32(size), numbers),
        check=_check,
        versions_every=size,
    )


@functools.lru_cache(maxsize=64)
def _step_with(make: Callable[..., optax.GradientTransformation]) -> MixWeighted:
    """Return the same function for the same optimizer: runs of it share a program."""

    def mix(
        numbers: PyTree, state: ServerState, arrival: WeightedArrival
    ) -> tuple[PyTree, ServerState, Array]:
        size, of_optimizer = numbers
        change = tree.sub(arrival.local, arrival.start)
        full, total, buffer = put_in(state.buffer, arrival.weight, change, size)
        params, rest = split(arrival.current)
        up, rest_up = split(total)
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            updates, optimizer = make(*of_optimizer).update(
                tree.scale(up, -1.0), state.optimizer, tree.widen(params)
            )
            stepped = optax.apply_updates(params, updates)
        made = join(stepped, tree.add_scaled(rest, 1.0, rest_up), arrival.current)
        mixed, optimizer = tree.where(
            full, (made, optimizer), (arrival.current, state.optimizer)
        )
        return mixed, ServerState(buffer, optimizer), arrival.weight

    return mix


def _check(schedule: Schedule, numbers: PyTree) -> None:
    check_size(schedule, numbers[0])
