"""The host's loop over calls of the device: Coordinator, evaluations, who is told.

It is the same for one run and for many; what a call is, and what lies on the device, is
handed to it (``algorithm`` for one run, ``many`` for several).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np

from fedasync_jax.base import Array, LocalUpdate, Mixer, PyTree, Variables
from fedasync_jax.engine.batching import Batching, replicate
from fedasync_jax.engine.history import (
    History,
    OnEvaluation,
    Past,
    Updates,
    choose_versions,
)
from fedasync_jax.engine.packing import Part
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


ScalesOf = Callable[[int, int, int], np.ndarray | None]


class Calls(Protocol):
    """Runs on the device, and the calls that take them forward."""

    def iterate(
        self, versions: Sequence[int], dropped: Collection[int], scales_of: ScalesOf
    ) -> Iterator[tuple[list[Part], PyTree, Updates]]:
        """Yield after every call its parts, the new versions and the updates.

        Args:
          versions: where each run begins; kept up to date by the caller.
          dropped: runs that are in no further call; looked at before every call.
          scales_of: returns the factors on the step sizes of rows of a run, given its
            number, the first row and the one after the last; None: there are none. It
            is asked just before a call.
        """
        ...

    def state_of(self, run: int, version: int) -> RunState:
        """Return the newest state of a run."""
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
    due = [choose_versions(run.eval_every, run.trace.num_updates) for run in runs]
    dropped: set[int] = set()

    def scales_of(run: int, begin: int, end: int) -> np.ndarray | None:
        scales = runs[run].step_scales
        if scales is None:
            return None
        start_version = runs[run].trace.start_version[begin:end]
        histories[run].flush(int(start_version.max()))
        return scales.at(start_version)

    def make_snapshot(run: int) -> Snapshot:
        return Snapshot(calls.state_of(run, versions[run]), histories[run].past())

    for parts, made, updates in calls.iterate(versions, dropped, scales_of):
        # What the call made is noted, and stays on the device for now.
        place = 0
        for run, begin, end in parts:
            histories[run].add(end - begin, updates, first=place)
            for row in np.flatnonzero(due[run][begin + 1 : end + 1]).tolist():
                model = _take(made, np.int32(place + row))
                histories[run].evaluate(begin + 1 + row, model)
            place, versions[run] = place + end - begin, end
        # Whoever listens may save, stop, or drop a run.
        if on_call is not None:
            dropped.update(on_call(list(versions), make_snapshot) or ())
    for history in histories:
        history.flush()
    return [
        RunResult(calls.state_of(i, versions[i]), h.updates(), h.evaluations)
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


_take = jax.jit(lambda models, place: jax.tree.map(lambda leaf: leaf[place], models))
