"""A buffer of changes, for rules that make one step of K arrivals."""

from typing import Annotated, NamedTuple

import jax.numpy as jnp

from fedasync_jax import tree
from fedasync_jax.base import Array, PyTree, Schedule, Variables
from fedasync_jax.parts.bounds import Bounds, at_least

BufferSize = Annotated[int, at_least(1)]


class Buffer(NamedTuple):
    """What has been collected.

    Attributes:
      total: weighted sum of changes, a pytree like the model.
      size: int32 [], how many.
    """

    total: PyTree
    size: Array


def empty(model: PyTree) -> Buffer:
    """Return an empty buffer."""
    return Buffer(tree.zeros(model), jnp.int32(0))


def put_in(
    buffer: Buffer, weight: Array, change: PyTree, size: Array
) -> tuple[Array, PyTree, Buffer]:
    """Put a weighted change into the buffer.

    Returns:
      Whether it is full, bool []; the sum; and the buffer after that, empty if it was.
    """
    total = tree.add_scaled(buffer.total, weight, change)
    count = buffer.size + 1
    full = count >= size
    after = tree.where(full, empty(total), Buffer(total, count))
    return full, total, after


def check_size(schedule: Schedule, size: Array) -> None:
    """Raise ValueError if the buffer would never be full."""
    bounds = Bounds(1, schedule.num_updates, note=" (the number of updates)")
    if not bounds.holds(int(size)):
        raise ValueError(f"size must be {bounds}, got {int(size)}")


def split(model: PyTree) -> tuple[PyTree, PyTree]:
    """Return what an optimizer sees of a model, and the rest."""
    return tuple(model) if isinstance(model, Variables) else (model, ())


def join(params: PyTree, rest: PyTree, like: PyTree) -> PyTree:
    """Return the model of both parts."""
    return Variables(params, rest) if isinstance(like, Variables) else params
