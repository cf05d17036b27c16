"""A library's own pytree as dictionaries, which every room can name, save and load.

Names are texts, the steps of a leaf's path: ``{"layers": {"0": {"kernel": w}}}``.
"""

from collections.abc import Callable
from typing import Any

import jax

from fedasync_jax.base import PyTree


def _never(step: Any) -> bool:
    del step
    return False


def nest_leaves(tree: PyTree, skip: Callable[[Any], bool] = _never) -> dict[str, Any]:
    """Return the leaves in dictionaries, by the steps of their paths.

    Args:
      tree: any pytree; two leaves must not have one path.
      skip: ``skip(step)``, which steps of a path to leave out.
    """
    nested: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        *parents, last = _name_steps(path, skip)
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = leaf
    return nested


def unnest_leaves(
    nested: dict[str, Any], like: PyTree, skip: Callable[[Any], bool] = _never
) -> PyTree:
    """Return the pytree of the structure of ``like`` with these leaves."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for path, _ in paths:
        node = nested
        for name in _name_steps(path, skip):
            node = node[name]
        leaves.append(node)
    return treedef.unflatten(leaves)


def _name_steps(path: tuple[Any, ...], skip: Callable[[Any], bool]) -> list[str]:
    steps = [step for step in path if not skip(step)]
    return [jax.tree_util.keystr((step,), simple=True) for step in steps]
