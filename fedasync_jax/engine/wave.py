"""A call of the device: wave after wave, gather the start models, train, mix, keep.

This is the device's half of Algorithm 1; ``algorithm`` is the host's, and ``many`` that
of several runs at once.

Shapes: P tasks in the queue, W tasks a wave (with its padding), N rows of a call's log,
R runs. A task in place p arrives p-th.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedasync_jax import tree
from fedasync_jax.base import Array, ArrayLike, Variables
from fedasync_jax.engine.arrivals import MixCarry, Tasks, mix_arrivals
from fedasync_jax.engine.history import Updates
from fedasync_jax.engine.plan import Inputs, Plan, TaskRow, pick_inputs
from fedasync_jax.engine.spreading import on_mesh, train_and_mix
from fedasync_jax.engine.state import Models
from fedasync_jax.engine.task import train_task


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
    place, models, log = carry
    queue = jnp.asarray(inputs.queue)
    places = jnp.minimum(place + jnp.arange(width, dtype=jnp.int32), len(queue) - 1)
    tasks = TaskRow(*queue[places].T)
    wave_end = tasks.wave_end[0]
    scales = None if step_scales is None else step_scales[places - first]

    train = functools.partial(_train, plan, inputs)
    mix = functools.partial(mix_arrivals, Tasks(plan, inputs, tasks, place - first))
    count = wave_end - place
    models, log = train_and_mix(
        train, mix, (models, log), (tasks, scales), count, plan.batching
    )
    return _Carry(wave_end, models, log)


def _train(
    plan: Plan,
    inputs: Inputs,
    carry: MixCarry,
    given: tuple[TaskRow, Array | None],
) -> tuple[Variables, Array, Array]:
    """Workers: train w tasks, each from the model that it received, see ``train_task``.

    Returns:
      Leaves [w, ...].
    """
    (_, store, _), _ = carry

    def train_row(
        task: TaskRow, scale: Array | None, start: Variables
    ) -> tuple[Variables, Array, Array]:
        local_update, key, _ = pick_inputs(plan, inputs, task.run)
        key = jax.random.fold_in(key, task.task)
        given = local_update, start, task.client, key, task.num_steps, scale
        return train_task(*given, common_steps=plan.num_steps)

    tasks, _ = given
    if len(tasks.client) == 1:  # no batch axis: a convolution stays ordinary
        given = tree.take(given, 0)
        trained = train_row(*given, tree.take(store, given[0].read_slot))
        return jax.tree.map(lambda leaf: leaf[None], trained)
    return jax.vmap(train_row)(*given, tree.gather(store, tasks.read_slot))


def _begin_log(num_rows: int) -> Updates:
    zeros = jnp.zeros(num_rows, float)
    return Updates(zeros, zeros.astype(bool), zeros)
