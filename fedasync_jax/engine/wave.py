"""A call of the device: wave after wave, gather the start models, train, mix, keep.

This is the device's half of Algorithm 1; ``algorithm`` is the host's, and ``many`` that
of several runs at once.

Shapes: P tasks in the queue, W tasks a wave (with its padding), N rows of a call's log,
R runs. A task in place p arrives p-th.
"""

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, ArrayLike, LocalUpdate, MixFn, PyTree, Variables
from fedasync_jax.engine.batching import Batching, map_tasks, on_mesh
from fedasync_jax.engine.carried import mix_floats
from fedasync_jax.engine.coordinates import Layout
from fedasync_jax.engine.history import Updates
from fedasync_jax.engine.product import Block, mix_block
from fedasync_jax.engine.state import Models
from fedasync_jax.engine.task import train_task

_BLOCK = 64  # arrivals in a matrix product: twice as many take twice the operations


class TaskRow(NamedTuple):
    """A task of the queue, int32 [] each; or a column each.

    Attributes:
      client: the client that trains.
      task: number in the order of the triggers.
      num_steps: H.
      read_slot: where the start model lies.
      write_slot: where the new version goes.
      staleness: d, in versions of the rule.
      version: that it is mixed into; its row in the trace of its run.
      run: the run that it belongs to.
      wave_end: in the first place of a wave, the place after its last.
    """

    client: Array | np.ndarray
    task: Array | np.ndarray
    num_steps: Array | np.ndarray
    read_slot: Array | np.ndarray
    write_slot: Array | np.ndarray
    staleness: Array | np.ndarray
    version: Array | np.ndarray
    run: Array | np.ndarray
    wave_end: Array | np.ndarray


class Inputs(NamedTuple):
    """Arguments that are the same for every call.

    Attributes:
      key: root key.
      queue: int32 [P, 9], the fields of ``TaskRow``.
      local_update: the Worker, a pytree with the data as leaves.
      mix: the Updater's rule, ``Mixer.update``, a pytree with its numbers as leaves.
    """

    key: Array
    queue: Array | np.ndarray
    local_update: PyTree
    mix: PyTree


class Plan(NamedTuple):
    """What a program is specialized to, besides shapes.

    Attributes:
      local_update: structure of the Worker: its function, without its arrays.
      mix: structure of the Updater's rule, likewise.
      num_steps: H if it is the same for all tasks.
      batching: see ``Batching``.
      own: of several runs, for every leaf of (local_update, key, mix) of ``Inputs``
        whether each run has its own; None: there is one run.
      layout: of the rule, if arrivals are mixed by matrix products; None: one by one.
    """

    local_update: Hashable
    mix: Hashable
    num_steps: int | None
    batching: Batching
    own: tuple[bool, ...] | None = None
    layout: Layout | None = None


class _Carry(NamedTuple):
    """What passes from wave to wave.

    Attributes:
      place: int32 [], the first of the next wave.
      models: before it.
      log: [N] rows, a row for every task of the call.
    """

    place: Array
    models: Models
    log: Updates


@functools.lru_cache(maxsize=32)
def compile_calls(plan: Plan) -> Callable:
    """Return the jitted call.

    Compiled code lives as long as its function. Only the plans used last are kept, so
    that a process may run any number of settings.
    """

    def run_waves(
        models: Models,
        inputs: Inputs,
        span: ArrayLike,  # int32 [2], the first place and the one after the last
        step_scales: ArrayLike | None = None,  # float [N]
        *,
        width: int,
        num_rows: int,
    ) -> tuple[Models, Updates]:
        one_device = functools.partial(_run_waves, plan, width, num_rows)
        on_devices = on_mesh(one_device, plan.batching.mesh)
        return on_devices(models, inputs, jnp.asarray(span), step_scales)

    return jax.jit(
        run_waves, static_argnames=("width", "num_rows"), donate_argnames="models"
    )


def _run_waves(
    plan: Plan,
    width: int,
    num_rows: int,
    models: Models,
    inputs: Inputs,
    span: Array,
    step_scales: Array | None,
) -> tuple[Models, Updates]:
    """Train and mix the waves of a call, as one device of the mesh.

    Returns:
      The models after, and what happened to each task, N rows; those of no task are
      anything.
    """
    first, until = span
    carry = _Carry(first, models, _begin_log(num_rows))
    run_wave = functools.partial(_run_wave, plan, width, inputs, step_scales, first)
    if plan.batching.one_at_a_time:  # of large tasks, which must stand in no loop
        carry = run_wave(carry)
    else:
        carry = jax.lax.while_loop(lambda now: now.place < until, run_wave, carry)
    return carry.models, carry.log


def _run_wave(
    plan: Plan,
    width: int,
    inputs: Inputs,
    step_scales: Array | None,
    first: Array,
    carry: _Carry,
) -> _Carry:
    """Train the tasks of a wave and mix them in their order."""
    place, (variables, store, mixer_state), log = carry
    queue = jnp.asarray(inputs.queue)
    places = jnp.minimum(place + jnp.arange(width, dtype=jnp.int32), len(queue) - 1)
    tasks = TaskRow(*queue[places].T)
    wave_end = tasks.wave_end[0]
    scales = None if step_scales is None else step_scales[places - first]

    # Workers. Every task is trained from the model that it received.
    def train_row(one: PyTree) -> tuple[Variables, Array, Array]:
        task, scale = one
        local_update, key, _ = _pick_inputs(plan, inputs, task.run)
        start = tree.take(store, task.read_slot)
        key = jax.random.fold_in(key, task.task)
        given = local_update, start, task.client, key, task.num_steps, scale
        return train_task(*given, common_steps=plan.num_steps)

    trained = map_tasks(train_row, (tasks, scales), wave_end - place, plan.batching)

    # Updater. In the order of arrival; what is not finite is not mixed. A new version
    # goes where tasks will start from it: nobody reads that slot any more.
    models, rows = Models(variables, store, mixer_state), place - first
    if plan.layout is None or width == 1:
        mix = functools.partial(_mix_one, plan, inputs, tasks, trained, rows)
        count, mix_next = wave_end - place, mix
    else:
        block = min(width, _BLOCK)
        mix = functools.partial(_mix_block, plan, plan.layout, inputs, tasks, trained)
        count = (wave_end - place + block - 1) // block
        mix_next = functools.partial(mix, rows, block, wave_end - place)
    models, log = jax.lax.fori_loop(0, count, mix_next, (models, log))
    return _Carry(wave_end, models, log)


def _mix_one(
    plan: Plan,
    inputs: Inputs,
    tasks: TaskRow,
    trained: Callable[[Array], PyTree],
    first_row: Array,
    i: Array,
    carry: tuple[Models, Updates],
) -> tuple[Models, Updates]:
    """Mix arrival i of a wave."""
    (variables, store, mixer_state), log = carry
    task = tree.take(tasks, i)
    local, finite, loss = trained(i)
    _, _, update = _pick_inputs(plan, inputs, task.run)
    now = variables, mixer_state
    before = now if plan.own is None else tree.take(now, task.run)
    mixed, next_state, info = mix_floats(
        update,
        local,
        before[1],
        before[0],
        start=tree.take(store, task.read_slot),
        staleness=task.staleness,
        version=task.version,
        client=task.client,
    )
    after = tree.where(finite, (mixed, next_state), before)
    store = tree.put(store, task.write_slot, after[0])
    alpha, loss = jnp.asarray(info.alpha, float), jnp.asarray(loss, float)
    row = Updates(alpha, info.applied & finite, loss)
    log = tree.put(log, first_row + i, row)
    now = after if plan.own is None else tree.put(now, task.run, after)
    return Models(now[0], store, now[1]), log


def _mix_block(
    plan: Plan,
    layout: Layout,
    inputs: Inputs,
    tasks: TaskRow,
    trained: Callable[[Array], PyTree],
    first_row: Array,
    size: int,
    count: Array,
    number: Array,
    carry: tuple[Models, Updates],
) -> tuple[Models, Updates]:
    """Mix a block of ``size`` arrivals of a wave of ``count``, see ``product``."""
    (variables, store, mixer_state), log = carry
    now = variables, mixer_state
    if plan.own is None:  # as one run of several
        now = jax.tree.map(lambda leaf: leaf[None], now)
    places = number * size + jnp.arange(size, dtype=jnp.int32)
    valid, places = places < count, jnp.minimum(places, len(tasks.run) - 1)
    local, finite, loss = jax.vmap(trained)(places)
    models, info = mix_block(
        layout,
        lambda run: _pick_inputs(plan, inputs, run)[2],
        Models(now[0], store, now[1]),
        Block(tree.take(tasks, places), local, valid, finite),
    )
    if plan.own is None:
        variables, mixer_state = tree.take((models.variables, models.mixer_state), 0)
        models = Models(variables, models.store, mixer_state)
    row = Updates(info.alpha, info.applied, jnp.asarray(loss, float))
    log = tree.put(log, jnp.where(valid, first_row + places, len(log.alpha)), row)
    return models, log


def _begin_log(num_rows: int) -> Updates:
    zeros = jnp.zeros(num_rows, float)
    return Updates(zeros, zeros.astype(bool), zeros)


def _pick_inputs(
    plan: Plan, inputs: Inputs, run: Array
) -> tuple[LocalUpdate, Array, MixFn]:
    """Return the Worker, the root key and the rule of a run."""
    inner = inputs.local_update, inputs.key, inputs.mix
    if plan.own is None:
        return inner
    leaves, treedef = jax.tree.flatten(inner)
    own = [x[run] if is_own else x for x, is_own in zip(leaves, plan.own, strict=True)]
    return treedef.unflatten(own)


def as_pytree(fn: Callable) -> PyTree:
    """Return a callable whose arrays, if it declares any, are arguments under jit."""
    return fn if isinstance(fn, jax.tree_util.Partial) else jax.tree_util.Partial(fn)
