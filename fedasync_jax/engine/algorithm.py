"""The engine: Algorithm 1, exact, with its tasks trained in batched waves.

The schedule does not depend on the values of the models, so arrivals whose start
models all exist form a wave: one compiled call trains every task of it from its own
stale model and mixes the results in the order of arrival. What comes out equals the
serial algorithm.

Shapes: T updates, S slots, W tasks a call (a wave and its padding). Row t of a trace
makes version t + 1.
Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1.
"""

import collections
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, LocalUpdate, Mixer, PyTree, Variables
from fedasync_jax.engine.batching import Batching, choose_batching, replicate
from fedasync_jax.engine.history import OnEvaluation, Past, Updates, choose_versions
from fedasync_jax.engine.loop import Evaluate, OnCall, Run, ScalesOf, drive
from fedasync_jax.engine.packing import Part
from fedasync_jax.engine.state import Models, RunResult, RunState, init_state
from fedasync_jax.engine.step_scales import StepScales
from fedasync_jax.engine.tables import check_tables
from fedasync_jax.engine.wave import (
    Inputs,
    Plan,
    TaskRow,
    as_pytree,
    compile_waves,
    find_plan_evaluated,
    make_columns,
)
from fedasync_jax.schedule.trace import Trace, make_waves


class Wave(NamedTuple):
    """A wave that has been handed to the device.

    Attributes:
      begin: first row.
      end: row after the last.
      versions: models begin + 1 .. end as they are judged, leading axis W >= end -
        begin.
      updates: see ``Updates``, W >= end - begin rows.
    """

    begin: int
    end: int
    versions: PyTree
    updates: Updates


def run(
    trace: Trace,
    local_update: LocalUpdate,
    mixer: Mixer,
    variables: Variables,
    key: Array,
    *,
    batching: Batching | None = None,
    evaluate_fn: Evaluate | None = None,
    eval_every: int | np.ndarray | None = None,
    callback: OnEvaluation | None = None,
    step_scales: StepScales | None = None,
    state: RunState | None = None,
    past: Past | None = None,
    on_call: OnCall | None = None,
) -> RunResult:
    """Run FedAsync over a whole trace.

    Args:
      trace: who arrives when and from which version.
      local_update: the Worker, not batched (see ``make_local_update``).
      mixer: the Updater's rule.
      variables: x_0; ignored when ``state`` is given.
      key: root key; task n trains with ``fold_in(key, n)``.
      batching: default: ``choose_batching()``.
      evaluate_fn: jitted function of a model; its result is fetched late.
      eval_every: versions between evaluations, or int [n], the versions themselves
        (version 0 and the last are always evaluated); None: only those two.
      callback: see ``OnEvaluation``.
      step_scales: a factor on the step size that follows from the evaluations; the
        host then waits for an evaluation before it starts tasks from that version. Of
        a run that is resumed: the object of the earlier run, or one that has observed
        its evaluations.
      state: where to go on, from an earlier result over a prefix of this trace; it is
        used up.
      past: what belongs to ``state``; then the result is that of the whole run.
      on_call: told of every wave, see ``OnCall``; the run's number is 0.

    Raises:
      ValueError: if ``eval_every`` is out of range, a leaf of ``variables`` is not a
        float array, or trace, local update, rule and ``state`` do not fit.
    """
    one = Run(
        trace,
        local_update,
        mixer,
        variables,
        key,
        eval_every=eval_every,
        callback=callback,
        step_scales=step_scales,
        state=state,
        past=past,
    )
    return run_one(one, batching or choose_batching(), evaluate_fn, on_call)


def run_one(
    run: Run,
    batching: Batching,
    evaluate_fn: Evaluate | None = None,
    on_call: OnCall | None = None,
) -> RunResult:
    """Run one ``Run``, see ``run``."""
    choose_versions(
        run.eval_every, run.trace.num_updates
    )  # before anything is compiled
    check_tables(run.trace, run.local_update, run.mixer)
    state = run.state
    if state is None:
        # Every device fills its own slots.
        variables = replicate(run.variables, batching.mesh)
        state = init_state(run.trace, run.mixer, variables)
    calls = _Waves(run, state, batching)
    (result,) = drive([run], calls, batching, evaluate_fn, on_call, [state])
    return result


class _Waves:
    """One run on the device; a call is a wave."""

    def __init__(self, run: Run, state: RunState, batching: Batching):
        self._run, self._state, self._batching = run, state, batching

    def iterate(
        self, versions: Sequence[int], dropped: Collection[int], scales_of: ScalesOf
    ) -> Iterator[tuple[list[Part], PyTree, Updates]]:
        """See ``loop.Calls``."""
        del versions  # the state has it
        run = self._run
        loop = iterate(
            run.trace,
            run.local_update,
            run.mixer,
            self._state,
            run.key,
            batching=self._batching,
            scales_of=lambda begin, end: scales_of(0, begin, end),
        )
        for self._state, wave in loop:
            yield [Part(0, wave.begin, wave.end)], wave.versions, wave.updates
            if dropped:
                return

    def state_of(self, run: int, version: int) -> RunState:
        """See ``loop.Calls``."""
        del run, version
        return self._state


def iterate(
    trace: Trace,
    local_update: LocalUpdate,
    mixer: Mixer,
    state: RunState,
    key: Array,
    *,
    batching: Batching,
    scales_of: Callable[[int, int], np.ndarray | None] = lambda begin, end: None,
) -> Iterator[tuple[RunState, Wave]]:
    """Yield after every wave the state and the wave: Algorithm 1's host loop.

    Only enqueues device work, at most ``batching.max_in_flight`` waves at a time. State
    and versions are used up by the next iteration: copy what should last.

    ``scales_of(begin, end)`` may give the factors on the step sizes of those rows,
    float [end - begin]; it is asked just before the wave starts.

    Raises:
      ValueError: if ``state`` does not fit the trace.
    """
    _check_state(state, trace)
    waves = list(make_waves(trace.start_version, batching.max_width, state.version))
    table = _make_table(trace, mixer, waves)
    inputs = Inputs(key, table, as_pytree(local_update), as_pytree(mixer.update))
    version, models = jnp.int32(state.version), Models(*state[1:])
    inputs, version, models = replicate((inputs, version, models), batching.mesh)
    worker, mix = map(jax.tree.structure, (inputs.local_update, inputs.mix))
    steps, evaluated = _common_steps(trace), find_plan_evaluated(mixer)
    plan = Plan(worker, mix, steps, batching, evaluated)
    start_wave = compile_waves(plan)
    in_flight = collections.deque(maxlen=batching.max_in_flight or 0)
    spares: dict[int, PyTree] = {}  # by width
    for begin, end in waves:
        # Scheduler and Coordinator: the tasks of rows begin .. end - 1 come back next,
        # and the versions that they started from all exist. Worker and Updater:
        width = batching.padded(end - begin)
        scales = _pad(scales_of(begin, end), width)
        if batching.one_at_a_time and width not in spares:
            spares[width] = _blank_versions(models.variables, width)
        version, models, versions, updates = start_wave(
            version, models, inputs, scales, spares.get(width), width=width
        )
        if batching.one_at_a_time:
            spares[width] = versions
        in_flight.append(updates)
        if len(in_flight) == batching.max_in_flight:
            jax.block_until_ready(in_flight.popleft())
        yield RunState(end, *models), Wave(begin, end, versions, updates)


@functools.partial(jax.jit, static_argnames="width")
def _blank_versions(variables: Variables, width: int) -> PyTree:
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (width, *leaf.shape)), variables
    )


def _pad(rows: np.ndarray | None, width: int) -> np.ndarray | None:
    return rows if rows is None else np.resize(rows, width)


def _make_table(trace: Trace, mixer: Mixer, waves: list[tuple[int, int]]) -> np.ndarray:
    """Return int32 [T, 8], the trace as the device reads it."""
    wave_end = np.zeros(trace.num_updates, np.int32)
    for begin, end in waves:
        wave_end[begin] = end
    columns = make_columns(trace, mixer)
    return np.stack(TaskRow(**columns, wave_end=wave_end), axis=1)


def _common_steps(trace: Trace) -> int | None:
    """Return H if it is the same for all tasks: a loop of known length is faster."""
    first = int(trace.num_steps[0])
    return first if (trace.num_steps == first).all() else None


def _check_state(state: RunState, trace: Trace) -> None:
    slots = jax.tree.leaves(state.store)[0].shape[0]
    if not 0 <= state.version <= trace.num_updates or slots != trace.num_slots:
        raise ValueError(
            f"state must be of a version in 0..{trace.num_updates} and have "
            f"{trace.num_slots} slots to fit the trace, got version {state.version} "
            f"and {slots} slots"
        )
