"""One wave, compiled: gather the start models, train, mix, keep the new versions.

This is the device's half of Algorithm 1; ``algorithm`` is the host's, and ``many`` that
of several runs at once.

Shapes: T updates, W tasks a call (a wave and its padding), R runs. Row t of a trace
makes version t + 1.
"""

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import (
    Array,
    ArrayLike,
    LocalUpdate,
    Mixer,
    MixFn,
    PyTree,
    Variables,
)
from fedasync_jax.engine.batching import Batching, map_tasks, on_mesh
from fedasync_jax.engine.carried import find_judged, mix_floats
from fedasync_jax.engine.history import Updates
from fedasync_jax.engine.state import Models
from fedasync_jax.schedule.trace import Trace


class TaskRow(NamedTuple):
    """A row of the trace, int32 [] each, as in ``trace.Trace``; or a column each.

    Attributes:
      client: the client that trains.
      task: number in the order of the triggers.
      start_version: tau.
      num_steps: H.
      read_slot: where the start model lies.
      write_slot: where the new version goes.
      staleness: d, in versions of the rule.
      wave_end: in the first row of a wave, the row after its last. So the host passes
        no number to the device from wave to wave.
    """

    client: Array | np.ndarray
    task: Array | np.ndarray
    start_version: Array | np.ndarray
    num_steps: Array | np.ndarray
    read_slot: Array | np.ndarray
    write_slot: Array | np.ndarray
    staleness: Array | np.ndarray
    wave_end: Array | np.ndarray


class Inputs(NamedTuple):
    """Arguments that are the same for every wave of a run.

    Attributes:
      key: root key.
      trace: int32 [T, 8], the fields of ``TaskRow``; one array, since a call costs the
        host some time for each.
      local_update: the Worker, a pytree with the data as leaves.
      mix: the Updater's rule, ``Mixer.update``, a pytree with its numbers as leaves.
    """

    key: Array
    trace: Array | np.ndarray
    local_update: PyTree
    mix: PyTree


class Plan(NamedTuple):
    """What the wave programs of a run are specialized to.

    Attributes:
      local_update: structure of the Worker: its function, without its arrays.
      mix: structure of the Updater's rule, likewise.
      num_steps: H if it is the same for all tasks.
      batching: see ``Batching``.
      evaluated: ``Mixer.evaluated``; None: the newest model itself.
      own: of several runs, for every leaf of (local_update, key, mix) of ``Inputs``
        whether each run has its own.
    """

    local_update: Hashable
    mix: Hashable
    num_steps: int | None
    batching: Batching
    evaluated: Callable | None = None
    own: tuple[bool, ...] = ()


@functools.lru_cache(maxsize=32)
def compile_waves(plan: Plan) -> Callable:
    """Return the jitted wave: one program for every width.

    Compiled code lives as long as its function. Only the plans used last are kept, so
    that a process may run any number of settings.
    """

    def run_wave(
        version: Array,  # int32 [], number of the newest model: the wave's first row
        models: Models,
        inputs: Inputs,
        step_scales: ArrayLike | None = None,  # float [W]
        spare: PyTree = None,  # versions that nobody reads any more
        *,
        width: int,
    ) -> tuple[Array, Models, PyTree, Updates]:
        del spare  # its memory becomes that of the new versions
        one_device = functools.partial(_run_wave, plan, width)
        on_devices = on_mesh(one_device, plan.batching.mesh)
        return on_devices(version, models, inputs, step_scales)

    return jax.jit(
        run_wave,
        static_argnames="width",
        donate_argnames=("version", "models", "spare"),
        keep_unused=True,
    )


def _run_wave(
    plan: Plan,
    width: int,
    version: Array,
    models: Models,
    inputs: Inputs,
    step_scales: Array | None,
) -> tuple[Array, Models, PyTree, Updates]:
    """Train and mix the next wave, as one device of the mesh."""
    rows = version + jnp.arange(width, dtype=jnp.int32)
    last_row = inputs.trace.shape[0] - 1
    tasks = TaskRow(*inputs.trace[jnp.minimum(rows, last_row)].T)
    count = tasks.wave_end[0] - version
    work = Tasks(tasks, rows, None, step_scales)
    return version + count, *work_through(plan, inputs, models, work, count)


class Tasks(NamedTuple):
    """Tasks of a call, a row each.

    Attributes:
      task: columns [W].
      row: int32 [W], row in the trace of its run, which is the version that it is
        mixed into.
      run: int32 [W], the run that it belongs to; None: there is only one.
      step_scale: float [W] or None.
    """

    task: TaskRow
    row: Array
    run: Array | None
    step_scale: Array | None


def work_through(
    plan: Plan, inputs: Inputs, models: Models, work: Tasks, count: Array
) -> tuple[Models, PyTree, Updates]:
    """Train the first ``count`` tasks and mix them in their order.

    Args:
      plan: what the program is specialized to.
      inputs: the same for all calls; of several runs, what is their own has a leading
        axis R, see ``Plan.own``.
      models: before.
      work: the tasks, whose start models all exist.
      count: int32 []; rows beyond are padding.

    Returns:
      The models after, what is judged of the new versions [W, ...], and what happened
      to each task [W].
    """
    variables, store, mixer_state = models

    # Workers. Every task is trained from the model that it received.
    def train_task(one: PyTree) -> tuple[Variables, Array, Array]:
        task, start = one.task, tree.take(store, one.task.read_slot)
        local_update, key, _ = _pick_inputs(plan, inputs, one.run)
        key = jax.random.fold_in(key, task.task)
        steps = task.num_steps if plan.num_steps is None else plan.num_steps
        scale = () if one.step_scale is None else (one.step_scale,)
        local, info = local_update(start, task.client, key, steps, *scale)
        return local, tree.all_finite(local), info.loss

    trained = map_tasks(train_task, work, count, plan.batching)

    # Updater. In the order of arrival; what is padding or not finite is not mixed.
    def mix(carry, arrival):
        i, one = arrival
        task = one.task
        local, finite, loss = trained(i)
        allowed = finite & (i < count)
        variables, mixer_state = before = _pick(carry, one.run)
        _, _, update = _pick_inputs(plan, inputs, one.run)
        mixed, next_state, info = mix_floats(
            update,
            local,
            mixer_state,
            variables,
            start=tree.take(store, task.read_slot),
            staleness=task.staleness,
            version=one.row,
            client=task.client,
        )
        after = tree.where(allowed, (mixed, next_state), before)
        carry = after if one.run is None else tree.put(carry, one.run, after)
        judged = plan.evaluated and find_judged(plan.evaluated, *after)
        applied = info.applied & allowed
        return carry, (after[0], judged, Updates(info.alpha, applied, loss))

    place = jnp.arange(len(work.row), dtype=jnp.int32)
    (variables, mixer_state), (versions, judged, updates) = jax.lax.scan(
        mix, (variables, mixer_state), (place, work)
    )

    # Scheduler. New versions go where tasks will start from them.
    num_slots = jax.tree.leaves(store)[0].shape[0]
    slots = jnp.where(place < count, work.task.write_slot, num_slots)
    store = tree.put(store, slots, versions)
    made = versions if plan.evaluated is None else judged
    return Models(variables, store, mixer_state), made, updates


def _pick(values: PyTree, run: Array | None) -> PyTree:
    return values if run is None else tree.take(values, run)


def _pick_inputs(
    plan: Plan, inputs: Inputs, run: Array | None
) -> tuple[LocalUpdate, Array, MixFn]:
    """Return the Worker, the root key and the rule of a run."""
    inner = inputs.local_update, inputs.key, inputs.mix
    if run is None:
        return inner
    leaves, treedef = jax.tree.flatten(inner)
    own = [x[run] if is_own else x for x, is_own in zip(leaves, plan.own, strict=True)]
    return treedef.unflatten(own)


def make_columns(trace: Trace, mixer: Mixer) -> dict[str, np.ndarray]:
    """Return the columns of ``TaskRow`` but the last, by name."""
    names = TaskRow._fields[:-2]
    columns = {name: getattr(trace, name) for name in names}
    return {**columns, "staleness": trace.count_staleness(mixer.versions_every)}


def find_plan_evaluated(mixer: Mixer) -> Callable | None:
    """Return what a plan needs to know of ``Mixer.evaluated``."""
    return None if mixer.evaluates_newest else mixer.evaluated


def as_pytree(fn: Callable) -> PyTree:
    """Return a callable whose arrays, if it declares any, are arguments under jit."""
    return fn if isinstance(fn, jax.tree_util.Partial) else jax.tree_util.Partial(fn)
