"""Pytree verbs, so that the algorithms read as algebra."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, ArrayLike, PyTree


def _at_least_float32(fn: Callable[..., Array], first: Array, *others: Array) -> Array:
    wide = jnp.float32 if first.dtype.itemsize < 4 else first.dtype
    result = fn(first.astype(wide), *(other.astype(wide) for other in others))
    return result.astype(first.dtype)


def lerp(start: PyTree, end: PyTree, weight: ArrayLike) -> PyTree:
    """Return ``(1 - weight) * start + weight * end``, exact at weights 0 and 1."""

    def lerp_leaf(x: Array, y: Array) -> Array:
        return _at_least_float32(
            lambda x, y: (
                (1 - jnp.asarray(weight, x.dtype)) * x
                + jnp.asarray(weight, x.dtype) * y
            ),
            x,
            y,
        )

    return jax.tree.map(lerp_leaf, start, end)


def sub(left: PyTree, right: PyTree) -> PyTree:
    """Return ``left - right``."""
    return jax.tree.map(jnp.subtract, left, right)


def add_scaled(left: PyTree, scale: ArrayLike, right: PyTree) -> PyTree:
    """Return ``left + scale * right``."""
    return jax.tree.map(lambda x, y: x + jnp.asarray(scale, x.dtype) * y, left, right)


def scale(tree: PyTree, factor: ArrayLike) -> PyTree:
    """Return ``factor * tree``."""
    return jax.tree.map(lambda x: jnp.asarray(factor, x.dtype) * x, tree)


def where(condition: ArrayLike, left: PyTree, right: PyTree) -> PyTree:
    """Return ``left`` where the scalar ``condition`` holds, ``right`` elsewhere."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), left, right)


def norm(tree: PyTree) -> Array:
    """Return the Euclidean norm over all leaves, float32 []."""
    squares = [
        jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(sum(squares, jnp.float32(0)))


def all_finite(tree: PyTree) -> Array:
    """Return bool []: no leaf holds a NaN or an infinity."""
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(finite).all() if finite else jnp.asarray(True)


def take(tree: PyTree, index: Any) -> PyTree:
    """Return ``leaf[index]`` of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def put(tree: PyTree, index: ArrayLike, rows: PyTree) -> PyTree:
    """Return ``tree`` with rows ``index`` replaced, those past the end dropped."""
    return jax.tree.map(
        lambda leaf, row: leaf.at[index].set(row, mode="drop"), tree, rows
    )


def sha256(tree: PyTree) -> str:
    """Return a checksum of types, shapes and values of all leaves, in hexadecimal.

    Numbers are hashed as little-endian bytes, so that it is the same on every machine.
    """
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        array = np.asarray(leaf)
        array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        name = jax.tree_util.keystr(path)
        found.update(f"{name} {array.dtype} {array.shape}\n".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
