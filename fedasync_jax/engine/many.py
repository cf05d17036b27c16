"""Many runs in one program: Algorithm 1 for R runs side by side.

The waves of one run may be narrow, as those of sampled staleness are. Runs that differ
in seeds, schedules and numbers only share one compiled program here: every wave has
tasks of all runs, which are trained under one batch axis. Each run gets the result that
it gets alone, to the rounding of floats.

Shapes: R runs, T updates of a run, S slots of all runs, W tasks a wave.
"""

from collections.abc import Collection, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Variables
from fedasync_jax.engine.algorithm import run_one, suit_batching
from fedasync_jax.engine.batching import Batching
from fedasync_jax.engine.calls import (
    Pace,
    find_common_steps,
    find_widest,
    make_columns,
    make_queue,
    start_calls,
)
from fedasync_jax.engine.coordinates import find_layout
from fedasync_jax.engine.history import Updates
from fedasync_jax.engine.loop import (
    Advance,
    Evaluate,
    OnCall,
    Run,
    ScalesOf,
    copy_judged,
    drive,
    find_due,
)
from fedasync_jax.engine.packing import pack
from fedasync_jax.engine.plan import Inputs, Plan, as_pytree
from fedasync_jax.engine.sharing import replicate, take_local
from fedasync_jax.engine.stacking import find_difference, stack_own
from fedasync_jax.engine.state import Models, RunResult, RunState, init_state
from fedasync_jax.engine.tables import check_tables
from fedasync_jax.engine.wave import compile_calls


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
      batching: default: as of ``run``; ``max_width`` is the number of tasks of
        all runs in a wave.
      evaluate_fn: jitted function of one model, the same for all.
      on_call: told of every call of the device; may drop runs, the others go on.

    Raises:
      ValueError: if there is no run, functions or shapes of two runs differ, or one is
        wrong in a way that ``engine.run`` refuses.
    """
    if not runs:
        raise ValueError("runs must be one or more, got none")
    batching = batching or suit_batching(runs[0])
    if len(runs) == 1:  # its own waves are faster than calls that are filled
        return [run_one(runs[0], batching, evaluate_fn, on_call)]
    due = [find_due(run) for run in runs]
    states = [
        init_state(run.trace, run.mixer, run.variables)
        if run.state is None
        else run.state
        for run in runs
    ]
    calls = _Lanes(runs, states, batching, due)  # they share a program
    for run in runs:
        check_tables(run.trace, run.local_update, run.mixer)
    return drive(runs, calls, batching, evaluate_fn, on_call, states)


class _Lanes:
    """Several runs on the device, one after the other along the first axis."""

    def __init__(
        self,
        runs: Sequence[Run],
        states: Sequence[RunState],
        batching: Batching,
        due: Sequence[Sequence[int]],
    ):
        self._runs, self._batching, self._due = runs, batching, due
        traces = [run.trace for run in runs]
        self._first_slot = np.cumsum([0, *(trace.num_slots for trace in traces)])
        self._first_row = np.cumsum([0, *(trace.num_updates for trace in traces)])
        self._columns = self._join_columns()
        parts = [
            (as_pytree(run.local_update), run.key, as_pytree(run.mixer.update))
            for run in runs
        ]
        newest = [(state.variables, state.mixer_state) for state in states]
        difference = find_difference(list(zip(parts, newest, strict=True)))
        if difference is not None:
            raise ValueError(difference)
        inner, own = stack_own(parts)
        variables, mixer_state = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *newest
        )
        store = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves), *[state.store for state in states]
        )
        models = Models(variables, store, mixer_state)
        self._inner, self._models = replicate((inner, models), batching.mesh)
        worker, _, mix = map(jax.tree.structure, inner)
        layout = find_layout(runs[0].mixer) if batching.product else None
        steps = find_common_steps(traces)
        plan = Plan(worker, mix, steps, batching, own, layout)
        self._call_waves = compile_calls(plan)
        self._pace = Pace(batching)

    def _join_columns(self) -> dict[str, np.ndarray]:
        """Return the columns of all runs, whose slots are those of all."""
        parts = []
        for number, run in enumerate(self._runs):
            columns = make_columns(run.trace, run.mixer, number)
            first, nobody = self._first_slot[number], run.trace.num_slots
            columns["read_slot"] = columns["read_slot"] + first
            write = columns["write_slot"]
            columns["write_slot"] = np.where(
                write == nobody, self._first_slot[-1], write + first
            )
            parts.append(columns)
        return {
            name: np.concatenate([columns[name] for columns in parts])
            for name in parts[0]
        }

    def iterate(
        self, versions: Sequence[int], dropped: Collection[int], scales_of: ScalesOf
    ) -> Iterator[tuple[list[Advance], Updates]]:
        """See ``loop.Calls``."""
        num_dropped = -1
        while num_dropped < len(dropped):  # the others go on in waves without them
            num_dropped = len(dropped)
            for advances, updates in self._work_off(versions, dropped, scales_of):
                yield advances, updates
                if num_dropped < len(dropped):
                    break

    def _work_off(
        self, versions: Sequence[int], dropped: Collection[int], scales_of: ScalesOf
    ) -> Iterator[tuple[list[Advance], Updates]]:
        """Work off one queue to its end."""
        batching, width = self._batching, self._batching.max_width
        starts = [run.trace.start_version for run in self._runs]
        packed = list(pack(starts, width, list(versions), self._due, dropped))
        parts = [part for wave in packed for part in wave]
        order = [np.arange(begin, end) + self._first_row[r] for r, begin, end in parts]
        places = np.concatenate([*order, np.zeros(0, int)])
        padded = np.resize(places, self._first_row[-1]) if len(places) else places
        columns = {name: column[padded] for name, column in self._columns.items()}

        sizes = [sum(end - begin for _, begin, end in wave) for wave in packed]
        ends = np.cumsum(sizes, dtype=int).tolist()
        waves = list(zip([0, *ends], ends, strict=False))
        due = [set(versions) for versions in self._due]
        stops = [
            end
            for end, wave in zip(ends, packed, strict=True)
            if any(part.end in due[part.run] for part in wave)
        ]
        local_update, key, mix = self._inner
        queue = replicate(make_queue(columns, waves), batching.mesh)

        def find_rows(begin: int, end: int) -> list[tuple[int, np.ndarray]]:
            """Return the runs of these places, and which of them are theirs."""
            run_of = columns["run"][begin:end]
            return [(int(run), np.flatnonzero(run_of == run)) for run in set(run_of)]

        def join_scales(begin: int, end: int) -> np.ndarray | None:
            joined = np.zeros(end - begin, np.float32)
            for run, rows in find_rows(begin, end):
                scales = scales_of(run, columns["version"][begin:end][rows])
                if scales is None:
                    return None
                joined[rows] = scales
            return joined

        loop = start_calls(
            self._call_waves,
            self._models,
            Inputs(key, queue, local_update, mix),
            waves,
            widest=min(sum(find_widest(s, batching) for s in starts), width),
            batching=batching,
            stops=stops,
            scales_of=join_scales,
            pace=self._pace,
        )
        for self._models, call in loop:
            advances = [
                Advance(run, int(columns["version"][call.begin + rows[-1]]) + 1, rows)
                for run, rows in find_rows(call.begin, call.end)
            ]
            yield advances, call.updates

    def state_of(self, run: int, version: int) -> RunState:
        """Return the state of one run, copied."""
        slots = slice(self._first_slot[run], self._first_slot[run + 1])
        models = take_local(self._models)  # one process may ask, and no other
        variables, mixer_state = jax.tree.map(
            lambda leaf: leaf[run], (models.variables, models.mixer_state)
        )
        store = jax.tree.map(lambda leaf: leaf[slots], models.store)
        return RunState(version, variables, store, mixer_state)

    def judged(self, run: int) -> Variables:
        """See ``loop.Calls``."""
        variables, _, mixer_state = self._models
        evaluated = self._runs[run].mixer.evaluated
        return copy_judged(variables, mixer_state, np.int32(run), evaluated=evaluated)
