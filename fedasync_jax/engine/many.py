"""Many runs in one program: Algorithm 1 for R runs side by side.

The waves of one run may be narrow, as those of sampled staleness are. Runs that differ
in seeds, schedules and numbers only share one compiled program here: every call trains
tasks of all runs under one batch axis. Each run gets the result that it gets alone, to
the rounding of floats.

Shapes: R runs, T updates of a run, S slots of all runs, W tasks a call.
"""

import collections
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, LocalUpdate, Mixer, PyTree, Variables
from fedasync_jax.engine.algorithm import (
    RunResult,
    RunState,
    Snapshot,
    as_pytree,
    init_state,
)
from fedasync_jax.engine.batching import Batching, choose_batching, on_mesh, replicate
from fedasync_jax.engine.history import (
    Callback,
    History,
    Past,
    Updates,
    choose_versions,
)
from fedasync_jax.engine.packing import Part, pack
from fedasync_jax.engine.stacking import stack_own
from fedasync_jax.engine.step_scales import StepScales
from fedasync_jax.engine.wave import Inputs, Models, Plan, Task, Work, work_through
from fedasync_jax.schedule.trace import Trace


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
    callback: Callback | None = None
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


def run_many(
    runs: Sequence[Run],
    *,
    batching: Batching | None = None,
    evaluate_fn: Callable[[Variables], dict[str, Array]] | None = None,
    on_call: OnCall | None = None,
) -> list[RunResult]:
    """Run several runs at once, each over its whole trace.

    Args:
      runs: one or more. What differs between them must be arrays: the leaves of a
        local update (``make_local_update`` with ``numbers``) and of a rule
        (``mixing.weighted``), x_0, the key, the trace.
      batching: default: ``choose_batching()``; ``max_width`` is the number of tasks of
        all runs in a call.
      evaluate_fn: jitted function of one model, the same for all.
      on_call: told of every call of the device; may drop runs, the others go on.

    Raises:
      ValueError: if there is no run, functions or shapes of two runs differ, or one is
        wrong in a way that ``engine.run`` refuses.
    """
    if not runs:
        raise ValueError("runs must be one or more, got none")
    batching = batching or choose_batching()
    states = [
        init_state(run.trace, run.mixer, run.variables)
        if run.state is None
        else run.state
        for run in runs
    ]
    lanes = _Lanes(runs, states, batching)
    histories = [
        _begin_history(run, state, evaluate_fn, batching)
        for run, state in zip(runs, states, strict=True)
    ]
    due = [choose_versions(run.eval_every, run.trace.num_updates) for run in runs]
    versions = [state.version for state in states]
    dropped: set[int] = set()
    for call, made, updates in lanes.iterate(histories, versions, dropped):
        place = 0
        for run, begin, end in call:
            histories[run].add(end - begin, updates, first=place)
            for row in np.flatnonzero(due[run][begin + 1 : end + 1]).tolist():
                model = _take(made, np.int32(place + row))
                histories[run].evaluate(begin + 1 + row, model)
            place, versions[run] = place + end - begin, end
        if on_call is not None:
            gone = on_call(
                list(versions),
                lambda run: Snapshot(
                    lanes.state_of(run, versions[run]), histories[run].past()
                ),
            )
            dropped.update(gone or ())
    for history in histories:
        history.flush()
    return [
        RunResult(lanes.state_of(i, versions[i]), h.updates(), h.evaluations)
        for i, h in enumerate(histories)
    ]


def _begin_history(
    run: Run,
    state: RunState,
    evaluate_fn: Callable[[Variables], dict[str, Array]] | None,
    batching: Batching,
) -> History:
    observe = None if run.step_scales is None else run.step_scales.observe
    history = History(state.version, evaluate_fn, run.callback, observe, run.past)
    if state.version == 0:
        history.evaluate(0, replicate(state.variables, batching.mesh))
    return history


class _Lanes:
    """The runs on the device, one after the other along the first axis of each array.

    Attributes:
      models: of all runs.
    """

    def __init__(
        self, runs: Sequence[Run], states: Sequence[RunState], batching: Batching
    ):
        self._runs, self._batching = runs, batching
        slots = [run.trace.num_slots for run in runs]
        self._first_slot = np.cumsum([0, *slots]).tolist()
        parts = [
            (as_pytree(run.local_update), run.key, as_pytree(run.mixer.update))
            for run in runs
        ]
        inner, own = stack_own(parts)
        local_update, key, mix = inner
        table = np.concatenate([self._make_rows(i) for i in range(len(runs))])
        variables, mixer_state = jax.tree.map(
            lambda *leaves: jnp.stack(leaves),
            *[(state.variables, state.mixer_state) for state in states],
        )
        store = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves), *[state.store for state in states]
        )
        inputs = Inputs(key, table, local_update, mix)
        self._inputs, self.models = replicate(
            (inputs, Models(variables, store, mixer_state)), batching.mesh
        )
        self._first_row = np.cumsum([0, *(run.trace.num_updates for run in runs)])
        steps = {int(h) for run in runs for h in np.unique(run.trace.num_steps)}
        common = steps.pop() if len(steps) == 1 else None
        worker, rule = map(jax.tree.structure, (local_update, mix))
        self._call = _compile_calls(Plan(worker, rule, common, batching, own))

    def _make_rows(self, number: int) -> np.ndarray:
        """Return int32 [T, 7], the trace of a run with its slots among those of all."""
        trace, first = self._runs[number].trace, self._first_slot[number]
        columns = {name: getattr(trace, name) for name in Task._fields[:-1]}
        columns["read_slot"] = trace.read_slot + first
        nobody = trace.write_slot == trace.num_slots
        columns["write_slot"] = np.where(
            nobody, self._first_slot[-1], trace.write_slot + first
        )
        rows = Task(**columns, wave_end=np.zeros(trace.num_updates, np.int32))
        return np.stack(rows, axis=1).astype(np.int32)

    def iterate(
        self,
        histories: Sequence[History],
        versions: Sequence[int],
        dropped: Collection[int],
    ) -> Iterator[tuple[list[Part], PyTree, Updates]]:
        """Yield after every call its parts, the new versions and the updates.

        Runs that are dropped meanwhile are in no further call.
        """
        batching, trace_of = self._batching, [run.trace for run in self._runs]
        in_flight = collections.deque(maxlen=batching.max_in_flight or 0)
        starts = [trace.start_version for trace in trace_of]
        for call in pack(starts, batching.max_width, versions, dropped):
            count = sum(end - begin for _, begin, end in call)
            width = batching.padded(count)
            order = self._order(call, count, width)
            scales = self._scales(call, histories, width)
            self.models, made, updates = self._call(
                self.models, self._inputs, order, scales, width=width
            )
            in_flight.append(updates)
            if len(in_flight) == batching.max_in_flight:
                jax.block_until_ready(in_flight.popleft())
            yield call, made, updates

    def _order(self, call: list[Part], count: int, width: int) -> np.ndarray:
        """Return int32 [W + 1, 3]: run, row, row of all; last, the number of tasks."""
        rows = np.concatenate([np.arange(begin, end) for _, begin, end in call])
        runs = np.repeat([part.run for part in call], [p.end - p.begin for p in call])
        table = np.stack([runs, rows, rows + self._first_row[runs]], axis=1)
        padded = np.concatenate([table, np.repeat(table[-1:], width - count, axis=0)])
        return np.append(padded, [[count, 0, 0]], axis=0).astype(np.int32)

    def _scales(
        self, call: list[Part], histories: Sequence[History], width: int
    ) -> np.ndarray | None:
        parts = []
        for run, begin, end in call:
            scales = self._runs[run].step_scales
            if scales is None:
                return None
            start_version = self._runs[run].trace.start_version[begin:end]
            histories[run].flush(int(start_version.max()))
            parts.append(scales.at(start_version))
        return np.resize(np.concatenate(parts), width)

    def state_of(self, run: int, version: int) -> RunState:
        """Return the state of one run, copied."""
        slots = slice(self._first_slot[run], self._first_slot[run + 1])
        variables, mixer_state = jax.tree.map(
            lambda leaf: leaf[run], (self.models.variables, self.models.mixer_state)
        )
        store = jax.tree.map(lambda leaf: leaf[slots], self.models.store)
        return RunState(version, variables, store, mixer_state)


_take = jax.jit(lambda models, place: jax.tree.map(lambda leaf: leaf[place], models))


@functools.lru_cache(maxsize=32)
def _compile_calls(plan: Plan) -> Callable:
    """Return the jitted call: one program for every width."""

    def run_call(
        models: Models,
        inputs: Inputs,
        order: Array,
        step_scales: Array | None = None,
        *,
        width: int,
    ) -> tuple[Models, PyTree, Updates]:
        one_device = functools.partial(_run_call, plan, width)
        on_devices = on_mesh(one_device, plan.batching.mesh)
        return on_devices(models, inputs, order, step_scales)

    return jax.jit(run_call, static_argnames="width", donate_argnames="models")


def _run_call(
    plan: Plan,
    width: int,
    models: Models,
    inputs: Inputs,
    order: Array,
    step_scales: Array | None,
) -> tuple[Models, PyTree, Updates]:
    run, row, place = order[:width].T
    tasks = Task(*jnp.asarray(inputs.trace)[place].T)
    work = Work(tasks, row, run, step_scales)
    return work_through(plan, inputs, models, work, order[width, 0])
