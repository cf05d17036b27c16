"""The Updater on the device: arrivals are mixed in the order of arrival.

What is not finite is not mixed. A new version goes where tasks will start from it:
nobody reads that slot any more.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Updater).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedasync_jax import tree
from fedasync_jax.base import Array
from fedasync_jax.engine.carried import mix_floats
from fedasync_jax.engine.coordinates import Layout
from fedasync_jax.engine.history import Updates
from fedasync_jax.engine.plan import Inputs, Plan, TaskRow, pick_inputs
from fedasync_jax.engine.product import Block, mix_block
from fedasync_jax.engine.spreading import Result
from fedasync_jax.engine.state import Models

_BLOCK = 64  # arrivals in a matrix product: twice as many take twice the operations

MixCarry = tuple[Models, Updates]


class Tasks(NamedTuple):
    """Tasks of a wave that come back.

    Attributes:
      plan: see ``Plan``.
      inputs: see ``Inputs``.
      rows: in the order of arrival, leaves [W].
      first: row of the log for the first of them.
    """

    plan: Plan
    inputs: Inputs
    rows: TaskRow
    first: Array


def mix_arrivals(
    tasks: Tasks, carry: MixCarry, result: Result, begin: Array, end: Array, most: int
) -> MixCarry:
    """Mix arrivals begin .. end - 1 of a wave, at most ``most``, in their order.

    Args:
      tasks: see ``Tasks``.
      carry: models and log before.
      result: of a task by its number in the wave, as ``train_task`` returns it.
      begin: first arrival.
      end: after the last.
      most: known when tracing.
    """
    if tasks.plan.layout is None or most == 1:
        mix_next = functools.partial(_mix_one, tasks, result)
        return jax.lax.fori_loop(begin, end, mix_next, carry)
    size = min(most, _BLOCK)
    layout, num_blocks = tasks.plan.layout, (end - begin + size - 1) // size

    def mix_next_block(number: Array, carry: MixCarry) -> MixCarry:
        places = begin + number * size + jnp.arange(size, dtype=jnp.int32)
        return _mix_block(tasks, result, layout, places, end, carry)

    return jax.lax.fori_loop(0, num_blocks, mix_next_block, carry)


def _mix_one(tasks: Tasks, result: Result, i: Array, carry: MixCarry) -> MixCarry:
    """Mix arrival i."""
    plan, inputs, rows, first = tasks
    (variables, store, mixer_state), log = carry
    task = tree.take(rows, i)
    local, finite, loss = result(i)
    _, _, update = pick_inputs(plan, inputs, task.run)
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
    # The store gets the row that was written: from ``after``, XLA would mix twice, and
    # would copy the models of all runs for it.
    now = after if plan.own is None else tree.put(now, task.run, after)
    after = after if plan.own is None else tree.take(now, task.run)
    store = tree.put(store, task.write_slot, after[0])
    alpha, loss = jnp.asarray(info.alpha, float), jnp.asarray(loss, float)
    row = Updates(alpha, info.applied & finite, loss)
    log = tree.put(log, first + i, row)
    return Models(now[0], store, now[1]), log


def _mix_block(
    tasks: Tasks,
    result: Result,
    layout: Layout,
    places: Array,
    end: Array,
    carry: MixCarry,
) -> MixCarry:
    """Mix the arrivals ``places`` that are before ``end``, see ``product``."""
    plan, inputs, rows, first = tasks
    (variables, store, mixer_state), log = carry
    now = variables, mixer_state
    if plan.own is None:  # as one run of several
        now = jax.tree.map(lambda leaf: leaf[None], now)
    valid, places = places < end, jnp.minimum(places, end - 1)
    local, finite, loss = jax.vmap(result)(places)
    models, info = mix_block(
        layout,
        lambda run: pick_inputs(plan, inputs, run)[2],
        Models(now[0], store, now[1]),
        Block(tree.take(rows, places), local, valid, finite),
    )
    if plan.own is None:
        variables, mixer_state = tree.take((models.variables, models.mixer_state), 0)
        models = Models(variables, models.store, mixer_state)
    row = Updates(info.alpha, info.applied, jnp.asarray(loss, float))
    log = tree.put(log, jnp.where(valid, first + places, len(log.alpha)), row)
    return models, log
