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

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, PyTree
from fedasync_jax.engine.algorithm import run_one
from fedasync_jax.engine.batching import Batching, choose_batching, on_mesh, replicate
from fedasync_jax.engine.history import Updates, choose_versions
from fedasync_jax.engine.loop import Evaluate, OnCall, Run, ScalesOf, drive
from fedasync_jax.engine.packing import Part, pack
from fedasync_jax.engine.stacking import stack_own
from fedasync_jax.engine.state import Models, RunResult, RunState, init_state
from fedasync_jax.engine.tables import check_tables
from fedasync_jax.engine.wave import (
    Inputs,
    Plan,
    TaskRow,
    Tasks,
    as_pytree,
    find_plan_evaluated,
    make_columns,
    work_through,
)


def run_many(
    runs: Sequence[Run],
    *,
    batching: Batching | None = None,
    evaluate_fn: Evaluate | None = None,
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
    if len(runs) == 1:  # its own waves are faster than calls that are filled
        return [run_one(runs[0], batching, evaluate_fn, on_call)]
    for run in runs:
        choose_versions(run.eval_every, run.trace.num_updates)
    states = [
        init_state(run.trace, run.mixer, run.variables)
        if run.state is None
        else run.state
        for run in runs
    ]
    calls = _Lanes(runs, states, batching)  # they share a program
    for run in runs:
        check_tables(run.trace, run.local_update, run.mixer)
    return drive(runs, calls, batching, evaluate_fn, on_call, states)


class _Lanes:
    """Several runs on the device, one after the other along the first axis."""

    def __init__(
        self, runs: Sequence[Run], states: Sequence[RunState], batching: Batching
    ):
        self._runs, self._batching = runs, batching
        if len({run.mixer.evaluated for run in runs}) > 1:
            raise ValueError("runs must have the same mixer.evaluated, got several")
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
        self._inputs, self._models = replicate(
            (inputs, Models(variables, store, mixer_state)), batching.mesh
        )
        self._first_row = np.cumsum([0, *(run.trace.num_updates for run in runs)])
        steps = {int(h) for run in runs for h in np.unique(run.trace.num_steps)}
        common = steps.pop() if len(steps) == 1 else None
        worker, rule = map(jax.tree.structure, (local_update, mix))
        evaluated = find_plan_evaluated(runs[0].mixer)
        plan = Plan(worker, rule, common, batching, evaluated, own)
        self._call = _compile_calls(plan)

    def _make_rows(self, number: int) -> np.ndarray:
        """Return int32 [T, 8], the trace of a run with its slots among those of all."""
        trace, first = self._runs[number].trace, self._first_slot[number]
        columns = make_columns(trace, self._runs[number].mixer)
        columns["read_slot"] = trace.read_slot + first
        nobody = trace.write_slot == trace.num_slots
        columns["write_slot"] = np.where(
            nobody, self._first_slot[-1], trace.write_slot + first
        )
        rows = TaskRow(**columns, wave_end=np.zeros(trace.num_updates, np.int32))
        return np.stack(rows, axis=1).astype(np.int32)

    def iterate(
        self,
        versions: Sequence[int],
        dropped: Collection[int],
        scales_of: ScalesOf,
    ) -> Iterator[tuple[list[Part], PyTree, Updates]]:
        """See ``loop.Calls``."""
        batching, trace_of = self._batching, [run.trace for run in self._runs]
        in_flight = collections.deque(maxlen=batching.max_in_flight or 0)
        starts = [trace.start_version for trace in trace_of]
        for call in pack(starts, batching.max_width, list(versions), dropped):
            count = sum(end - begin for _, begin, end in call)
            width = batching.padded(count)
            order = self._order(call, count, width)
            scales = _join_scales([scales_of(*part) for part in call], width)
            self._models, made, updates = self._call(
                self._models, self._inputs, order, scales, width=width
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

    def state_of(self, run: int, version: int) -> RunState:
        """Return the state of one run, copied."""
        slots = slice(self._first_slot[run], self._first_slot[run + 1])
        variables, mixer_state = jax.tree.map(
            lambda leaf: leaf[run], (self._models.variables, self._models.mixer_state)
        )
        store = jax.tree.map(lambda leaf: leaf[slots], self._models.store)
        return RunState(version, variables, store, mixer_state)


def _join_scales(parts: list[np.ndarray | None], width: int) -> np.ndarray | None:
    """Return the factors of a call; all runs have some, or none has."""
    if any(scales is None for scales in parts):
        return None
    return np.resize(np.concatenate([s for s in parts if s is not None]), width)


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
    tasks = TaskRow(*jnp.asarray(inputs.trace)[place].T)
    work = Tasks(tasks, row, run, step_scales)
    return work_through(plan, inputs, models, work, order[width, 0])
