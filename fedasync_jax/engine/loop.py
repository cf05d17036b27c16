"""The host's loop over calls of the device: Coordinator, evaluations, who is told.

It is the same for one run and for many; what a call is, and what lies on the device, is
handed to it (``algorithm`` for one run, ``many`` for several).
"""

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np

from fedasync_jax.base import Array, ArrayLike, LocalUpdate, Mixer, PyTree, Variables
from fedasync_jax.engine.batching import Batching
from fedasync_jax.engine.carried import find_judged
from fedasync_jax.engine.history import (
    History,
    OnEvaluation,
    Past,
    Updates,
    choose_versions,
)
from fedasync_jax.engine.sharing import replicate, take_local
from fedasync_jax.engine.state import RunResult, RunState, Snapshot, copy_arrays
from fedasync_jax.engine.step_scales import StepScales
from fedasync_jax.schedule.trace import Trace

Evaluate = Callable[[Variables], dict[str, Array]]


class Run(NamedTuple):
    """One of the runs; arguments of ``engine.run``, which explains them.

    Attributes:
      trace: its schedule.
      local_update: its Worker: of the same function and shapes in all runs.
      mixer: its rule, likewise.
      variables: x_0.
      key: root key.
      eval_every: versions between its evaluations, or the versions themselves.
      callback: told of its evaluations.
      step_scales: its factors on the step size; all runs have some, or none has.
      state: where it goes on; None: at the beginning.
      past: what belongs to ``state``.
    """

    trace: Trace
    local_update: LocalUpdate
    mixer: Mixer
    variables: Variables
    key: Array
    eval_every: int | np.ndarray | None = None
    callback: OnEvaluation | None = None
    step_scales: StepScales | None = None
    state: RunState | None = None
    past: Past | None = None


class OnCall(Protocol):
    """Is told of every call of the device."""

    def __call__(
        self, versions: list[int], make_snapshot: Callable[[int], Snapshot], /
    ) -> Collection[int] | None:
        """Return the runs to be trained no more, if any.

        Args:
          versions: newest of every run.
          make_snapshot: returns the snapshot of a run, by its number.
        """


ScalesOf = Callable[[int, np.ndarray], np.ndarray | None]


class Advance(NamedTuple):
    """What a call did for a run.

    Attributes:
      run: its number.
      version: its newest.
      rows: which rows of the call's updates are its own, in their order.
    """

    run: int
    version: int
    rows: slice | np.ndarray


class Calls(Protocol):
    """Runs on the device, and the calls that take them forward.

    A call ends where a run is due to be evaluated.
    """

    def iterate(
        self, versions: Sequence[int], dropped: Collection[int], scales_of: ScalesOf
    ) -> Iterator[tuple[list[Advance], Updates]]:
        """Yield after every call what it did for each run that is in it.

        Args:
          versions: where each run begins; kept up to date by the caller.
          dropped: runs that are in no further call; looked at before every call.
          scales_of: returns the factors on the step sizes of a run, given its number
            and rows of its trace; None: there are none. It is asked just before a call.
        """
        ...

    def state_of(self, run: int, version: int) -> RunState:
        """Return the newest state of a run."""
        ...

    def judged(self, run: int) -> Variables:
        """Return the model of a run that is evaluated, copied."""
        ...


def drive(
    runs: Sequence[Run],
    calls: Calls,
    batching: Batching,
    evaluate_fn: Evaluate | None,
    on_call: OnCall | None,
    states: Sequence[RunState],
) -> list[RunResult]:
    """Take runs to their ends: enqueue calls, note what they made, tell who listens.

    Args:
      runs: any number.
      calls: the same runs on the device.
      batching: see ``Batching``.
      evaluate_fn: jitted function of one model, the same for all.
      on_call: see ``OnCall``.
      states: where they begin.
    """
    versions = [state.version for state in states]
    histories = [
        _begin_history(run, state, evaluate_fn, batching)
        for run, state in zip(runs, states, strict=True)
    ]
    due = [set(find_due(run)) for run in runs]
    dropped: set[int] = set()

    def scales_of(run: int, rows: np.ndarray) -> np.ndarray | None:
        scales = runs[run].step_scales
        if scales is None:
            return None
        start_version = runs[run].trace.start_version[rows]
        decisive = scales.decisive_versions(start_version, rows)
        histories[run].flush(int(decisive.max()))
        return scales.at(decisive)

    def make_snapshot(run: int) -> Snapshot:
        state = take_local(calls.state_of(run, versions[run]))
        return Snapshot(state, histories[run].past())

    for advances, updates in calls.iterate(versions, dropped, scales_of):
        # What the call made is noted, and stays on the device for now.
        for run, version, rows in advances:
            versions[run] = version
            histories[run].add(updates, rows)
            if version in due[run]:
                histories[run].evaluate(version, calls.judged(run))
        # Whoever listens may save, stop, or drop a run.
        if on_call is not None:
            dropped.update(on_call(list(versions), make_snapshot) or ())
    for history in histories:
        history.flush()
    return [
        RunResult(
            take_local(calls.state_of(i, versions[i])), h.updates(), h.evaluations
        )
        for i, h in enumerate(histories)
    ]


def _begin_history(
    run: Run, state: RunState, evaluate_fn: Evaluate | None, batching: Batching
) -> History:
    observe = None if run.step_scales is None else run.step_scales.observe
    history = History(state.version, evaluate_fn, run.callback, observe, run.past)
    if state.version == 0:  # a copy: the calls use the state up
        history.evaluate(0, replicate(copy_arrays(state.variables), batching.mesh))
    return history


def find_due(run: Run) -> list[int]:
    """Return the versions that are evaluated, rising, 0 and the last among them.

    Raises:
      ValueError: if ``run.eval_every`` is out of range.
    """
    due = choose_versions(run.eval_every, run.trace.num_updates)
    return np.flatnonzero(due).tolist()


@functools.partial(jax.jit, static_argnames="evaluated")
def copy_judged(
    variables: Variables,
    mixer_state: PyTree,
    run: ArrayLike | None = None,
    *,
    evaluated: Callable[[PyTree, PyTree], PyTree],
) -> Variables:
    """Return a copy of the model that is evaluated, of one of several runs if given."""
    models = variables, mixer_state
    if run is not None:
        models = jax.tree.map(lambda leaf: leaf[run], models)
    return copy_arrays(find_judged(evaluated, *models))
