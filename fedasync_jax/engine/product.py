"""Many arrivals of a linear rule by one matrix product, for accelerators.

In the order of arrival, x_i = a_i x_{i-1} + p_i y_i + q_i (start_i - y_i), which is
x_t = (1 - alpha_t) x_{t-1} + alpha_t x_new for FedAsync. One arrival after the other
takes an accelerator a dozen kernels each, however small the model. But the numbers a, p
and q do not depend on the models (``coordinates``), so all x_i of a block come from one
product of a triangular matrix with the models that arrived.

Shapes: B arrivals of a block, K registers (the newest model and what the rule
remembers), R runs, S slots, n leaves that are floats.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedasync_jax import tree
from fedasync_jax.base import Array, MixFn, MixInfo, PyTree
from fedasync_jax.engine.coordinates import (
    Layout,
    Leaves,
    ask_all,
    find_last,
    is_earlier,
    make_ask,
    reads_start,
    solve,
    units_of,
)
from fedasync_jax.engine.state import Models


class Block(NamedTuple):
    """Arrivals in their order, leading axis B.

    Attributes:
      tasks: see ``plan.TaskRow``.
      local: the models that came back.
      valid: bool, whether there is an arrival; the others come last.
      finite: bool, whether a model is finite; what is not is not mixed.
    """

    tasks: Any
    local: PyTree
    valid: Array
    finite: Array


def mix_block(
    layout: Layout, update_of: Callable[[Array], MixFn], models: Models, block: Block
) -> tuple[Models, MixInfo]:
    """Mix B arrivals in their order.

    It is what one after the other gives, to the rounding of floats.

    Args:
      layout: see ``find_layout``.
      update_of: returns the rule of a run, given its number.
      models: before; newest models and states of the rule with a leading axis R.
      block: the arrivals.

    Returns:
      The models after, and what happened to each arrival, [B].
    """
    variables, store, mixer_state = models
    run, good = block.tasks.run, block.valid & block.finite
    current, kept = tree.split_floats(variables)
    registers, numbers = _split_state(layout, current, mixer_state)
    runs = jnp.arange(registers[0][0].shape[0])

    # What the rule does with every arrival, in numbers.
    ask, start = make_ask(layout, update_of), units_of(layout)[-2:].sum(axis=0)
    needs_start = reads_start(ask, start, numbers, block.tasks)
    steps, numbers, info = ask_all(ask, start, numbers, block.tasks, good)
    coordinates = solve(steps, run)
    if not needs_start:
        coordinates = coordinates[..., : -len(good)]

    # The models themselves. What is not finite has coordinate 0, but 0 NaN is NaN.
    local, others = tree.split_floats(block.local)
    basis = [_clear(good, leaf) for leaf in jax.tree.leaves(tree.widen(local))]
    if needs_start:
        start, _ = tree.split_floats(tree.take(store, block.tasks.read_slot))
        starts = [_clear(good, leaf) for leaf in jax.tree.leaves(tree.widen(start))]
        pairs = zip(basis, starts, strict=True)
        basis = [jnp.concatenate([y, start - y]) for y, start in pairs]

    # All versions. What is no float is that of the newest model that was mixed.
    floats = _combine(coordinates[:, 0], basis, registers, run)
    newest = find_last(is_earlier(run, or_equal=True) & info.applied[None])
    others = _pick(newest, others, tree.take(kept, run))
    versions = _make_versions(current, floats, tree.fill(others, variables))
    num_slots = jax.tree.leaves(store)[0].shape[0]
    write = jnp.where(block.valid, block.tasks.write_slot, num_slots)
    store = tree.put(store, write, versions)

    # Of every run the newest version, and what its rule remembers.
    last = find_last((run[None] == runs[:, None]) & block.valid[None])
    own_row = jnp.where(last < 0, -1, runs)
    remembered = [
        _pick(own_row, _combine(coordinates[last, i], basis, registers, runs), leaves)
        for i, leaves in enumerate(registers[1:], start=1)
    ]
    mixer_state = _join_state(layout, mixer_state, remembered, numbers)
    return Models(_pick(last, versions, variables), store, mixer_state), info


def _combine(
    coordinates: Array, basis: Leaves, registers: Sequence[Leaves], run: Array
) -> list[Array]:
    """Return linear combinations of models, leaves [M, ...].

    Args:
      coordinates: [M, K + number of the basis].
      basis: leaves of models that all share.
      registers: K times leaves [R, ...].
      run: int [M], whose registers they are.
    """
    found, num_registers = [], len(registers)
    for i, leaf in enumerate(basis):
        numbers = coordinates.astype(leaf.dtype)
        of_basis = jax.lax.dot(
            numbers[:, num_registers:],
            leaf.reshape(len(leaf), -1),
            precision=jax.lax.Precision.HIGHEST,
        )
        total = of_basis.reshape(-1, *leaf.shape[1:])
        for j, leaves in enumerate(registers):
            number = numbers[:, j].reshape(-1, *[1] * (leaf.ndim - 1))
            total += number * leaves[i].astype(leaf.dtype)[run]
        found.append(total)
    return found


def _make_versions(current: PyTree, floats: Leaves, others: PyTree) -> PyTree:
    """Return models of leaves that are floats, typed as ``current``, and the others."""
    like, treedef = jax.tree.flatten(current)
    pairs = zip(floats, like, strict=True)
    typed = treedef.unflatten(leaf.astype(old.dtype) for leaf, old in pairs)
    return tree.fill(typed, others)


def _split_state(
    layout: Layout, current: PyTree, mixer_state: PyTree
) -> tuple[list[list[Array]], list[Array]]:
    """Return the registers, K times the n leaves of a model, and the numbers."""
    newest, left = jax.tree.leaves(current), iter(jax.tree.leaves(mixer_state))
    registers, numbers = [newest], []
    for is_model in layout.is_model:
        if is_model:
            registers.append([next(left) for _ in newest])
        else:
            numbers.append(next(left))
    return registers, numbers


def _join_state(
    layout: Layout, before: PyTree, registers: Sequence[Leaves], numbers: Leaves
) -> PyTree:
    """Return what a rule remembers, of the same types as before."""
    models, left = iter(registers), iter(numbers)
    leaves = []
    for is_model in layout.is_model:
        leaves.extend(next(models) if is_model else [next(left)])
    old, treedef = jax.tree.flatten(before)
    pairs = zip(leaves, old, strict=True)
    return treedef.unflatten(new.astype(old.dtype) for new, old in pairs)


def _clear(good: Array, leaf: Array) -> Array:
    return jnp.where(good.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0)


def _pick(index: Array, rows: PyTree, otherwise: PyTree) -> PyTree:
    """Return rows by number, [M, ...], and ``otherwise`` where the number is -1."""

    def pick(rows: Array, otherwise: Array) -> Array:
        is_there = (index >= 0).reshape(-1, *[1] * (otherwise.ndim - 1))
        return jnp.where(is_there, rows[index].astype(otherwise.dtype), otherwise)

    return jax.tree.map(pick, rows, otherwise)
