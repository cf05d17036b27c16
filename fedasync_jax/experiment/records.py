"""What an experiment consists of: a workload, and methods that compete on it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from fedasync_jax.base import (
    Array,
    ClientData,
    LocalUpdate,
    Mixer,
    Model,
    Variables,
)
from fedasync_jax.fleet.devices import Fleet
from fedasync_jax.schedule.local_steps import Steps
from fedasync_jax.schedule.trace import Trace


class Workload(NamedTuple):
    """What is learned from what.

    Attributes:
      model: what is trained.
      clients: train samples and their owners, on the device.
      counts: int [C], samples of every client.
      label_counts: int [C, K], how many of each label; None of a text.
      evaluate: metrics of a model: ``loss`` and ``correct`` of the test set, and, if
        there is a validation set, its ``valid_loss`` and ``valid_correct``.
      steps: H, as the scheduler takes it.
      unroll: whether the local steps must be written out.
      large_tasks: see ``choose_batching``.
      is_text: whether the model is a language model, judged by its perplexity.
      description: the data in a few words.
      data_sha256: checksum of all samples, train and test.
    """

    model: Model
    clients: ClientData
    counts: np.ndarray
    label_counts: np.ndarray | None
    evaluate: Callable[[Variables], dict[str, Array]]
    steps: Steps
    unroll: bool
    large_tasks: bool
    is_text: bool
    description: str
    data_sha256: str = ""

    @property
    def num_bytes(self) -> int:
        """Size of a model as it travels: parameters and statistics."""
        shapes = jax.eval_shape(self.model.init, jax.random.key(0))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


class Method(NamedTuple):
    """One line of the comparison.

    Attributes:
      name: as it is shown.
      fleet: its devices.
      trace: its schedule.
      staleness: int32 [T], d of each arrival; zero for a synchronous method.
      local_update: its Worker.
      mixer: its Updater.
      eval_every: versions between evaluations, or the versions themselves.
      is_async: whether its arrivals are mixed one by one, and may be stale.
      expected_alpha: float32 [T], the weights alpha_t that it must mix with; None: they
        depend on the models, or on more than the schedule.
      staleness_weights: float32 [T], s(d) of every arrival; None: it has no s(d).
      models: int [n], the versions that are models of the method, such as the last of
        every round; None: all are.
      gradients_per_step: gradients that a local step counts as; more than 1 for
        batches larger than those of the clients.
      step_size: of its local steps; None: that of the settings.
      counts_updates: whether its versions are client updates (not for SGD).
      has_clock: whether the times of the trace are simulated seconds.
    """

    name: str
    fleet: Fleet
    trace: Trace
    staleness: np.ndarray
    local_update: LocalUpdate
    mixer: Mixer
    eval_every: int | np.ndarray
    is_async: bool = False
    expected_alpha: np.ndarray | None = None
    staleness_weights: np.ndarray | None = None
    models: np.ndarray | None = None
    gradients_per_step: float = 1.0
    step_size: float | None = None
    counts_updates: bool = True
    has_clock: bool = True
