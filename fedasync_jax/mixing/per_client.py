"""What rules with a model per client share: the memory, its bound, its rows."""

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, ArrayLike, PyTree, Schedule

MAX_BYTES = 2 * 1024**3


def keep_per_client(rule: str, model: PyTree, num_clients: int) -> PyTree:
    """Return the model once for every client, leaves [C, ...].

    Args:
      rule: its name, for the error.
      model: what each row is at first.
      num_clients: C.

    Raises:
      ValueError: if that would take more than ``MAX_BYTES``, which is checked before
        anything is allocated.
    """
    leaves = jax.tree.leaves(model)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    most = max(1, MAX_BYTES // max(size, 1))
    if num_clients > most:
        raise ValueError(
            f"num_clients must be in [1, {most}] for the rule {rule}, which keeps a "
            f"model of {_show(size)} per client, got {num_clients} "
            f"({_show(size * num_clients)})"
        )
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (num_clients, *leaf.shape)), model
    )


def row(rows: PyTree, client: Array) -> PyTree:
    """Return the model of one client."""
    return tree.take(rows, client)


def put_row(rows: PyTree, client: ArrayLike, model: PyTree) -> PyTree:
    """Return the models with that of one client replaced."""
    return tree.put(rows, client, model)


def check_clients(schedule: Schedule, num_clients: int) -> None:
    """Raise ValueError if a client of the schedule has no row."""
    largest = int(np.max(schedule.client))
    if largest >= num_clients:
        raise ValueError(
            f"num_clients must be at least {largest + 1} for this schedule, "
            f"got {num_clients}"
        )


def _show(size: int) -> str:
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
