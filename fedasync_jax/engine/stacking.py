"""What several runs share, and what each has for its own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, PyTree

_SMALL = 65_536  # entries


def stack_own(parts: Sequence[PyTree]) -> tuple[PyTree, tuple[bool, ...]]:
    """Stack what is each run's own; return the pytree, and which leaves are.

    A large array that is the same in all runs, such as the data set, is not stacked but
    lies on the device once. Small ones always are, so that the program does not depend
    on which numbers happen to be equal. ``find_difference`` must find none.
    """
    structure = jax.tree.structure(parts[0])
    rows = list(zip(*map(jax.tree.leaves, parts), strict=True))
    own = tuple(np.size(row[0]) <= _SMALL or not _are_same(row) for row in rows)
    stacked = [
        jnp.stack(leaves) if is_own else leaves[0]
        for leaves, is_own in zip(rows, own, strict=True)
    ]
    return structure.unflatten(stacked), own


def find_difference(parts: Sequence[PyTree]) -> str | None:
    """Return why runs cannot share a program, in a line; None if they can.

    Args:
      parts: of every run, its local update, its rule and what else it hands over.
    """
    structures = [jax.tree.structure(part) for part in parts]
    for number, structure in enumerate(structures):
        if structure != structures[0]:
            return (
                "runs must have the same functions in local_update, mixer and "
                f"variables, got others in run {number} than in run 0"
            )
    for leaves in zip(*map(jax.tree.leaves, parts), strict=True):
        kinds = [(np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
        if len(set(kinds)) > 1:
            return (
                "runs must have arrays of the same shapes and types in local_update, "
                "mixer and variables, got "
                f"{' and '.join(map(str, dict.fromkeys(kinds)))}"
            )
    return None


def _are_same(leaves: Sequence[Array]) -> bool:
    first, *others = leaves
    return all(
        leaf is first or np.array_equal(np.asarray(first), np.asarray(leaf))
        for leaf in others
    )
