"""The structure of a model as JSON, with the names of its leaves.

A node is one of ``"name"`` (a leaf), ``null`` (None), ``{"list": [node, ..]}``,
``{"tuple": [node, ..]}``, ``{"variables": [params, state]}`` and
``{"dict": [[key, node], ..]}``, whose keys are texts or integers.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fedasync_jax.base import PyTree, Variables
from fedasync_jax.parts.bounds import shorten


def name_paths(model: PyTree) -> tuple[list[str], Any]:
    """Return a name for every leaf, all different, and the tree definition.

    A name is the path, such as ``params/Dense_0/kernel``. The second leaf of a path,
    as of ``{"a/b": x, "a": {"b": y}}``, is ``a/b#2``.
    """
    paths, treedef = jax.tree_util.tree_flatten_with_path(model)
    names: list[str] = []
    taken = {"", "__metadata__"}  # what safetensors has a use of its own for
    for path, _ in paths:
        plain = jax.tree_util.keystr(path, simple=True, separator="/")
        name, count = plain or "model", 1
        while name in taken:
            count += 1
            name = f"{plain}#{count}"
        taken.add(name)
        names.append(name)
    return names, treedef


def name_leaves(model: PyTree) -> dict[str, np.ndarray]:
    """Return the arrays of a model on the host, by their paths in the tree.

    >>> list(name_leaves(Variables({"w": np.zeros(2)})))
    ['params/w']
    """
    names, _ = name_paths(model)
    leaves = jax.tree.leaves(jax.device_get(model))
    return {n: np.asarray(leaf) for n, leaf in zip(names, leaves, strict=True)}


def describe_structure(model: PyTree) -> Any:
    """Return the structure of a model; None if it has nodes of other kinds."""
    names, treedef = name_paths(model)
    try:
        return _encode(treedef.unflatten(names))
    except TypeError:
        return None


def build_structure(node: Any, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """Return the model of a structure.

    Raises:
      ValueError: if the structure is none, or names a leaf that is not there.
    """
    match node:
        case None:
            return None
        case str() if node in arrays:
            return arrays[node]
        case {"list": [*nodes], **rest} if not rest:
            return [build_structure(each, arrays) for each in nodes]
        case {"tuple": [*nodes], **rest} if not rest:
            return tuple(build_structure(each, arrays) for each in nodes)
        case {"variables": [params, state], **rest} if not rest:
            return Variables(*(build_structure(n, arrays) for n in (params, state)))
        case {"dict": [*items], **rest} if not rest and all(map(_is_item, items)):
            return {key: build_structure(each, arrays) for key, each in items}
    shown = shorten(repr(node), 60)
    raise ValueError(f"structure must be made of known nodes and leaves, got {shown}")


def _is_item(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and type(item[0]) in (str, int)


def _encode(node: Any) -> Any:
    if node is None or isinstance(node, str):
        return node
    if isinstance(node, Variables):
        return {"variables": [_encode(node.params), _encode(node.state)]}
    if type(node) in (list, tuple):
        return {type(node).__name__: [_encode(each) for each in node]}
    if type(node) is dict and all(type(key) in (str, int) for key in node):
        return {"dict": [[key, _encode(each)] for key, each in node.items()]}
    raise TypeError
