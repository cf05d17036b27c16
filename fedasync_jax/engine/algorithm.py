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
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, ArrayLike, LocalUpdate, Mixer, PyTree, Variables
from fedasync_jax.engine.batching import Batching, choose_batching, replicate
from fedasync_jax.engine.history import (
    Callback,
    Evaluation,
    History,
    Past,
    Updates,
    choose_versions,
)
from fedasync_jax.engine.step_scales import StepScales
from fedasync_jax.engine.wave import DeviceState, Inputs, Plan, Task, compile_waves
from fedasync_jax.schedule.trace import Trace, make_waves


class RunState(NamedTuple):
    """All that a run must not lose; with trace and key enough to go on exactly.

    Attributes:
      version: t, number of the newest model.
      variables: x_t.
      store: start models of the tasks in flight, a pytree like ``variables`` with
        leading axis S.
      mixer_state: what the mixing rule remembers.
    """

    version: int
    variables: Variables
    store: PyTree
    mixer_state: PyTree


class Snapshot(NamedTuple):
    """A run between two waves, enough to go on as if it had never stopped.

    Attributes:
      state: everything on the device; used up by the next wave.
      past: everything that has been fetched.
    """

    state: RunState
    past: Past


class Wave(NamedTuple):
    """A wave that has been handed to the device.

    Attributes:
      begin: first row.
      end: row after the last.
      versions: models begin + 1 .. end, leading axis W >= end - begin.
      updates: see ``Updates``, W >= end - begin rows.
    """

    begin: int
    end: int
    versions: PyTree
    updates: Updates


class RunResult(NamedTuple):
    """A finished run.

    Attributes:
      state: the last state; ``state.variables`` is the final model.
      updates: ``Updates`` of NumPy arrays [T], one row per update of this run.
      evaluations: in order of the version.
    """

    state: RunState
    updates: Updates
    evaluations: list[Evaluation]


def run(
    trace: Trace,
    local_update: LocalUpdate,
    mixer: Mixer,
    variables: Variables,
    key: Array,
    *,
    batching: Batching | None = None,
    evaluate_fn: Callable[[Variables], dict[str, Array]] | None = None,
    eval_every: int | np.ndarray | None = None,
    callback: Callback | None = None,
    step_scales: StepScales | None = None,
    state: RunState | None = None,
    past: Past | None = None,
    on_wave: Callable[[int, Callable[[], Snapshot]], None] | None = None,
) -> RunResult:
    """Run FedAsync over a whole trace.

    Args:
      trace: who arrives when and from which version.
      local_update: the Worker, not batched (see ``local.make_local_update``).
      mixer: the Updater's rule.
      variables: x_0; ignored when ``state`` is given.
      key: root key; task n trains with ``fold_in(key, n)``.
      batching: default: ``choose_batching()``.
      evaluate_fn: jitted function of a model; its result is fetched late.
      eval_every: versions between evaluations, or int [n], the versions themselves
        (version 0 and the last are always evaluated); None: only those two.
      callback: see ``Callback``.
      step_scales: a factor on the step size that follows from the evaluations; the
        host then waits for an evaluation before it starts tasks from that version. Of
        a run that is resumed: the object of the earlier run, or one that has observed
        its evaluations.
      state: where to go on, from an earlier result over a prefix of this trace; it is
        used up.
      past: what belongs to ``state``; then the result is that of the whole run.
      on_wave: called after every wave with the newest version and a function that
        returns a snapshot, which waits for the device.

    Raises:
      ValueError: if ``eval_every`` is out of range, a leaf of ``variables`` is not a
        float array or ``state`` does not fit the trace.
    """
    is_due = choose_versions(eval_every, trace.num_updates)
    batching = batching or choose_batching()
    if state is None:
        # Every device fills its own slots.
        state = init_state(trace, mixer, replicate(variables, batching.mesh))
    observe = None if step_scales is None else step_scales.observe
    history = History(state.version, evaluate_fn, callback, observe, past)
    if state.version == 0:
        history.evaluate(0, replicate(_copy(state.variables), batching.mesh))

    def scales_of(begin: int, end: int) -> np.ndarray | None:
        if step_scales is None:
            return None
        start_version = trace.start_version[begin:end]
        history.flush(int(start_version.max()))
        return step_scales.at(start_version)

    loop = iterate(
        trace, local_update, mixer, state, key, batching=batching, scales_of=scales_of
    )
    for newest, wave in loop:
        state = newest
        history.add(wave.end - wave.begin, wave.updates)
        for place in np.flatnonzero(is_due[wave.begin + 1 : wave.end + 1]).tolist():
            version = wave.begin + 1 + place
            history.evaluate(version, _pick(wave.versions, np.int32(place)))
        if on_wave is not None:
            on_wave(state.version, lambda now=state: Snapshot(now, history.past()))
    history.flush()
    return RunResult(state, history.updates(), history.evaluations)


def init_state(trace: Trace, mixer: Mixer, variables: Variables) -> RunState:
    """Return the state before the first update: x_0, which lies in slot 0.

    Raises:
      ValueError: if a leaf of ``variables`` is not a float array.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"variables{name} must be a float array to be mixed, "
                f"got {jnp.result_type(leaf)}"
            )
    # Copies: the engine donates its state, every array of it, and only once. The
    # caller's arrays stay the caller's, also those that the mixer remembers.
    variables = _copy(variables)
    store = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (trace.num_slots, *leaf.shape)), variables
    )
    return RunState(0, variables, store, _copy(mixer.init(variables)))


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
    table = _make_table(trace, waves)
    inputs = Inputs(key, table, as_pytree(local_update), as_pytree(mixer.update))
    device_state = DeviceState(jnp.int32(state.version), *state[1:])
    inputs, device_state = replicate((inputs, device_state), batching.mesh)
    worker, mix = map(jax.tree.structure, (inputs.local_update, inputs.mix))
    plan = Plan(worker, mix, _common_steps(trace), batching)
    start_wave = compile_waves(plan)
    in_flight = collections.deque(maxlen=batching.max_in_flight or 0)
    spares: dict[int, PyTree] = {}  # by width
    for begin, end in waves:
        # Scheduler and Coordinator: the tasks of rows begin .. end - 1 come back next,
        # and the versions that they started from all exist. Worker and Updater:
        width = batching.padded(end - begin)
        scales = _pad(scales_of(begin, end), width)
        if batching.one_at_a_time and width not in spares:
            spares[width] = _blank_versions(device_state.variables, width)
        device_state, versions, updates = start_wave(
            device_state, inputs, scales, spares.get(width), width=width
        )
        if batching.one_at_a_time:
            spares[width] = versions
        in_flight.append(updates)
        if len(in_flight) == batching.max_in_flight:
            jax.block_until_ready(in_flight.popleft())
        yield RunState(end, *device_state[1:]), Wave(begin, end, versions, updates)


def _copy(values: PyTree) -> PyTree:
    """Copy, with types as strong as those of results: one program a width, not two."""

    def copy_leaf(leaf: ArrayLike) -> Array:
        return jnp.array(leaf, dtype=jnp.result_type(leaf), copy=True)

    return jax.tree.map(copy_leaf, values)


_pick = jax.jit(tree.take)


@functools.partial(jax.jit, static_argnames="width")
def _blank_versions(variables: Variables, width: int) -> PyTree:
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (width, *leaf.shape)), variables
    )


def _pad(rows: np.ndarray | None, width: int) -> np.ndarray | None:
    return rows if rows is None else np.resize(rows, width)


def _make_table(trace: Trace, waves: list[tuple[int, int]]) -> np.ndarray:
    """Return int32 [T, 7], the trace as the device reads it."""
    wave_end = np.zeros(trace.num_updates, np.int32)
    for begin, end in waves:
        wave_end[begin] = end
    columns = {name: getattr(trace, name) for name in Task._fields[:-1]}
    return np.stack(Task(**columns, wave_end=wave_end), axis=1)


def _common_steps(trace: Trace) -> int | None:
    """Return H if it is the same for all tasks: a loop of known length is faster."""
    first = int(trace.num_steps[0])
    return first if (trace.num_steps == first).all() else None


def as_pytree(fn: Callable) -> PyTree:
    """Return a callable whose arrays, if it declares any, are arguments under jit."""
    return fn if isinstance(fn, jax.tree_util.Partial) else jax.tree_util.Partial(fn)


def _check_state(state: RunState, trace: Trace) -> None:
    slots = jax.tree.leaves(state.store)[0].shape[0]
    if not 0 <= state.version <= trace.num_updates or slots != trace.num_slots:
        raise ValueError(
            f"state must be of a version in 0..{trace.num_updates} and have "
            f"{trace.num_slots} slots to fit the trace, got version {state.version} "
            f"and {slots} slots"
        )
