"""The engine: Algorithm 1, exact, with its tasks trained in batched waves.

The schedule does not depend on the values of the models, so arrivals whose start
models all exist form a wave: every task of it is trained from its own stale model at
once, and the results are mixed in the order of arrival. One compiled call works through
many waves. What comes out equals the serial algorithm.

Shapes: T updates, S slots. Row t of a trace makes version t + 1.
Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import jax
import numpy as np

from fedasync_jax.base import Array, LocalUpdate, Mixer, Variables
from fedasync_jax.engine.batching import Batching, choose_batching
from fedasync_jax.engine.calls import (
    Call,
    Pace,
    find_common_steps,
    find_widest,
    make_columns,
    make_queue,
    start_calls,
)
from fedasync_jax.engine.coordinates import find_layout
from fedasync_jax.engine.history import OnEvaluation, Past, Updates
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
from fedasync_jax.engine.plan import Inputs, Plan, as_pytree
from fedasync_jax.engine.sharing import replicate
from fedasync_jax.engine.state import (
    Models,
    RunResult,
    RunState,
    check_leaves,
    init_state,
)
from fedasync_jax.engine.step_scales import StepScales
from fedasync_jax.engine.tables import check_tables
from fedasync_jax.engine.task_size import measure_task
from fedasync_jax.engine.wave import compile_calls
from fedasync_jax.schedule.trace import Trace, make_waves


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
      batching: default: ``choose_batching()``, given how much work a local step is.
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
      on_call: told of every call of the device, see ``OnCall``; the run's number is 0.

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
    if state is None:
        check_leaves(variables)  # before anything is traced
    return run_one(one, batching or suit_batching(one), evaluate_fn, on_call)


def suit_batching(run: Run) -> Batching:
    """Return the batching that suits the back end and the work of a local step."""
    more = () if run.step_scales is None else (np.float32(1),)
    task = measure_task(run.local_update, run.variables, run.key, *more)
    return choose_batching(task=task)


def run_one(
    run: Run,
    batching: Batching,
    evaluate_fn: Evaluate | None = None,
    on_call: OnCall | None = None,
) -> RunResult:
    """Run one ``Run``, see ``run``."""
    due = find_due(run)  # before anything is compiled
    check_tables(run.trace, run.local_update, run.mixer)
    state = run.state
    if state is None:
        # Every device fills its own slots.
        variables = replicate(run.variables, batching.mesh)
        state = init_state(run.trace, run.mixer, variables)
    calls = _OneRun(run, state, batching, due)
    (result,) = drive([run], calls, batching, evaluate_fn, on_call, [state])
    return result


class _OneRun:
    """One run on the device."""

    def __init__(
        self, run: Run, state: RunState, batching: Batching, due: Sequence[int]
    ):
        self._run, self._state, self._batching, self._due = run, state, batching, due

    def iterate(
        self, versions: Sequence[int], dropped: Collection[int], scales_of: ScalesOf
    ) -> Iterator[tuple[list[Advance], Updates]]:
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
            stops=self._due,
            scales_of=lambda begin, end: scales_of(0, np.arange(begin, end)),
        )
        for self._state, call in loop:
            rows = slice(call.end - call.begin)
            yield [Advance(0, call.end, rows)], call.updates
            if dropped:
                return

    def state_of(self, run: int, version: int) -> RunState:
        """See ``loop.Calls``."""
        del run, version
        return self._state

    def judged(self, run: int) -> Variables:
        """See ``loop.Calls``."""
        del run
        _, variables, _, mixer_state = self._state
        return copy_judged(variables, mixer_state, evaluated=self._run.mixer.evaluated)


def iterate(
    trace: Trace,
    local_update: LocalUpdate,
    mixer: Mixer,
    state: RunState,
    key: Array,
    *,
    batching: Batching,
    stops: Sequence[int] = (),
    scales_of: Callable[[int, int], np.ndarray | None] = lambda begin, end: None,
) -> Iterator[tuple[RunState, Call]]:
    """Yield after every call the state and the call: Algorithm 1's host loop.

    Only enqueues device work. A state is used up by the next iteration: copy what
    should last. Waves share a call, see ``calls``; row t of the trace is in place t.

    Args:
      trace: as of ``run``, like the others.
      local_update: the Worker.
      mixer: the Updater's rule.
      state: where to begin; used up.
      key: root key.
      batching: see ``Batching``.
      stops: versions at which a call ends, rising, so that they can be looked at.
      scales_of: ``scales_of(begin, end)`` may give the factors on the step sizes of
        those rows, float [end - begin]; it is asked just before their call.

    Raises:
      ValueError: if ``state`` does not fit the trace.
    """
    _check_state(state, trace)
    waves = list(
        make_waves(trace.start_version, batching.max_width, state.version, stops)
    )
    queue = make_queue(make_columns(trace, mixer), waves)
    inputs = Inputs(key, queue, as_pytree(local_update), as_pytree(mixer.update))
    inputs, models = replicate((inputs, Models(*state[1:])), batching.mesh)
    worker, mix = map(jax.tree.structure, (inputs.local_update, inputs.mix))
    layout = find_layout(mixer) if batching.product else None
    plan = Plan(worker, mix, find_common_steps([trace]), batching, layout=layout)
    loop = start_calls(
        compile_calls(plan),
        models,
        inputs,
        waves,
        widest=find_widest(trace.start_version, batching),
        batching=batching,
        stops=stops,
        scales_of=scales_of,
        pace=Pace(batching),
    )
    for models, call in loop:
        yield RunState(call.end, *models), call


def _check_state(state: RunState, trace: Trace) -> None:
    slots = jax.tree.leaves(state.store)[0].shape[0]
    if not 0 <= state.version <= trace.num_updates or slots != trace.num_slots:
        raise ValueError(
            f"state must be of a version in 0..{trace.num_updates} and have "
            f"{trace.num_slots} slots to fit the trace, got version {state.version} "
            f"and {slots} slots"
        )
