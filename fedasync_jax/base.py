"""The vocabulary of the package: records and Protocols that every part shares.

A *client* owns data, a *worker* trains for it, a *task* is one triggered training,
an *arrival* is a task that came back, a *version* is the number t of a global model.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

PyTree = Any  # opaque to the type checker
Array = jax.Array
ArrayLike = jax.typing.ArrayLike


class Variables(NamedTuple):
    """A model as it is sent, trained, returned and mixed: always the whole of it.

    Attributes:
      params: trainable parameters, a pytree of float arrays. Only these see the
        optimizer and the proximal term.
      state: everything else that belongs to the model, such as the running
        statistics of batch normalization; ``()`` when there is nothing.
    """

    params: PyTree
    state: PyTree = ()


class LossFn(Protocol):
    """Training loss of a model on one batch."""

    def __call__(
        self, variables: Variables, batch: PyTree, key: Array
    ) -> tuple[Array, PyTree]:
        """Return the scalar mean loss and the new ``variables.state``."""
        ...


class MetricsFn(Protocol):
    """Sums over a batch, from which the metrics of a whole data set are made."""

    def __call__(self, variables: Variables, batch: PyTree) -> dict[str, Array]:
        """Return sums over the batch; ``"count"`` is the number of summands."""
        ...


def _keep(state: PyTree) -> PyTree:
    return state


class Model(NamedTuple):
    """What is trained, as pure functions.

    Attributes:
      init: ``init(key) -> Variables``.
      loss: see ``LossFn``; the key is for dropout and the like.
      metrics: see ``MetricsFn``; evaluation mode, no randomness.
      start_task: ``start_task(state) -> state`` at the beginning of every task, to add
        what passes from batch to batch but is neither sent nor mixed, such as the
        hidden state of a recurrent network; default: nothing.
      end_task: ``end_task(state) -> state`` at its end, to take that away again.
    """

    init: Callable[[Array], Variables]
    loss: LossFn
    metrics: MetricsFn
    start_task: Callable[[PyTree], PyTree] = _keep
    end_task: Callable[[PyTree], PyTree] = _keep


class ClientData(NamedTuple):
    """Samples of all clients, once: client i owns ``indices[o_i : o_i + n_i]``.

    Shapes: N samples, M index entries, C clients.

    Attributes:
      arrays: pytree of arrays [N, ...]; one sample is one row of every leaf.
      indices: int32 [M], rows of ``arrays``, client after client.
      offsets: int32 [C], o_i, where client i begins in ``indices``.
      counts: int32 [C], n_i >= 1, the number of samples of client i.
    """

    arrays: PyTree
    indices: Array | np.ndarray
    offsets: Array | np.ndarray
    counts: Array | np.ndarray


class StalenessFn(Protocol):
    """Weight s(d) of an arrival that is d versions late: s(0) = 1, never rising."""

    def __call__(self, staleness: ArrayLike) -> Array:
        """Return s(staleness) in (0, 1], of the shape of ``staleness``."""
        ...


class MixInfo(NamedTuple):
    """What the Updater did with one arrival.

    Attributes:
      alpha: float [], the weight alpha_t that the local model received.
      applied: bool [], whether the arrival was mixed (or kept for a later mix).
    """

    alpha: Array
    applied: Array


class MixFn(Protocol):
    """One arrival enters the global model."""

    def __call__(
        self,
        local: PyTree,
        state: PyTree,
        current: PyTree,
        *,
        start: PyTree,
        staleness: Array,
        version: Array,
        client: Array,
    ) -> tuple[PyTree, PyTree, MixInfo]:
        """Return the next global model, the next mixer state and a ``MixInfo``.

        Args:
          local: model x_new that the worker returned.
          state: mixer state.
          current: newest global model, x_version.
          start: model x_tau that the worker received.
          staleness: int32 [], d = version - tau, in versions.
          version: int32 [], number of the version that is mixed into.
          client: int32 [], the client that trained.
        """
        ...


class Arrivals(NamedTuple):
    """What is known of all arrivals before a run, on the host: columns [T].

    The schedule does not depend on the models, so a rule may read it beforehand.

    Attributes:
      client: int32, who trains.
      staleness: int32, d, in versions of the rule (see ``Mixer.versions_every``).
      num_samples: int64, n_i of that client.
      arrival_time: float64, when the model arrives, simulated seconds.
      num_in_flight: int32, tasks under way just before it arrives, itself among them.
    """

    client: np.ndarray
    staleness: np.ndarray
    num_samples: np.ndarray
    arrival_time: np.ndarray
    num_in_flight: np.ndarray


def _newest(model: PyTree, state: PyTree) -> PyTree:
    """Return the newest model itself."""
    del state
    return model


class Mixer(NamedTuple):
    """A mixing rule: a pair of pure functions, as in an optax transformation.

    What has a default is for rules that need it.

    Attributes:
      init: ``init(model) -> state``; what the rule remembers between arrivals.
      update: see ``MixFn``; no Python branch on values.
      evaluated: ``evaluated(model, state) -> model``, which model is judged and
        exported, such as an average; default: the newest itself.
      versions_every: K; a rule that collects K arrivals makes a version of its own only
        then, and its staleness counts those, floor(t / K) - floor(tau / K). The
        engine's ``version`` goes on counting arrivals.
      weights: ``weights(arrivals) -> float32 [T]``, where the weights follow from the
        schedule alone; see ``Arrivals``.
      with_weights: ``with_weights(float32 [T]) -> Mixer``, the same rule with its
        weights in a table: as mere numbers, they let runs share a compiled program.
      shows_weights: whether ``MixInfo.alpha`` is that weight, and nothing else.
    """

    init: Callable[[PyTree], PyTree]
    update: MixFn
    evaluated: Callable[[PyTree, PyTree], PyTree] = _newest
    versions_every: int = 1
    weights: "Callable[[Arrivals], np.ndarray] | None" = None
    with_weights: "Callable[[np.ndarray], Mixer] | None" = None
    shows_weights: bool = True

    @property
    def evaluates_newest(self) -> bool:
        """Whether the model that is judged is the newest itself."""
        return self.evaluated is _newest


def wrap_mixer(mixer: Mixer, wrap: Callable[[Mixer], Mixer]) -> Mixer:
    """Return ``wrap(mixer)``, which keeps weights that are known beforehand.

    Args:
      mixer: any rule.
      wrap: returns a rule around another, see ``mixing.averaged``.
    """
    with_weights = mixer.with_weights
    return wrap(mixer)._replace(
        versions_every=mixer.versions_every,
        weights=mixer.weights,
        shows_weights=mixer.shows_weights,
        with_weights=with_weights and (lambda table: wrap(with_weights(table))),
    )


class LocalInfo(NamedTuple):
    """What one task tells besides its model.

    Attributes:
      loss: float [], mean training loss over the steps taken.
    """

    loss: Array


class LocalUpdate(Protocol):
    """The work of one worker: H local steps from the model that it received.

    One that is run with ``StepScales`` takes a fifth argument, ``step_scale``.
    """

    def __call__(
        self, variables: Variables, client: Array, key: Array, num_steps: int | Array
    ) -> tuple[Variables, LocalInfo]:
        """Return the trained model and a ``LocalInfo``; for one task, not batched."""
        ...


class Schedule(Protocol):
    """What a part may ask of a schedule before it runs; ``schedule.Trace`` has it."""

    @property
    def num_updates(self) -> int:
        """T."""
        ...

    @property
    def client(self) -> np.ndarray:
        """Int [T], who trains."""
        ...


class Guarded(NamedTuple):
    """A function for ``jax.tree_util.Partial``, and what it says of itself.

    Inside a compiled program a number that is too large reads the last row. A part that
    looks something up by client or version says here what it needs; the engine asks
    before the first wave.

    Attributes:
      fn: the function.
      check_schedule: ``check_schedule(schedule, *arguments of the Partial)`` raises
        ValueError, in one line, if they do not fit.
      linear: of a ``MixFn``, whether the next model, and every model in its state, is a
        linear combination of the models that it is given, the same for all leaves, with
        coefficients that do not depend on their values; or a function of the arguments
        of the Partial that says so. Accelerators mix such arrivals many at a time.
    """

    fn: Callable[..., Any]
    check_schedule: Callable[..., None]
    linear: bool | Callable[..., bool] = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.fn(*args, **kwargs)


def check_schedule(part: Any, schedule: Schedule) -> None:
    """Ask a local update or a rule whether it fits a schedule, if it can say so.

    Raises:
      ValueError: if it does not.
    """
    if isinstance(part, jax.tree_util.Partial):
        check = getattr(part.func, "check_schedule", None)
        if check is not None:
            check(schedule, *part.args)


def is_linear(update: Any) -> bool:
    """Return whether a rule says that it is linear in the models, see ``Guarded``."""
    if not isinstance(update, jax.tree_util.Partial):
        return False
    linear: Any = getattr(update.func, "linear", False)
    return bool(linear(*update.args) if callable(linear) else linear)
