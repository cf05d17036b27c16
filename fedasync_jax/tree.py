"""Pytree verbs, so that the algorithms read as algebra."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, ArrayLike, PyTree

_FEW = 16  # rows


def _widen(dtype: Any) -> Any:
    return jnp.float32 if dtype.itemsize < 4 else dtype


def _at_least_float32(fn: Callable[..., Array], first: Array, *others: Array) -> Array:
    wide = _widen(first.dtype)
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
    """Return ``left - right``, in float32 or wider, so that nothing of it is lost."""
    return jax.tree.map(jnp.subtract, widen(left), widen(right))


def add_scaled(left: PyTree, scale: ArrayLike, right: PyTree) -> PyTree:
    """Return ``left + scale * right``, rounded once to the types of ``left``."""

    def add_leaf(x: Array, y: Array) -> Array:
        return _at_least_float32(lambda x, y: x + jnp.asarray(scale, x.dtype) * y, x, y)

    return jax.tree.map(add_leaf, left, right)


def widen(tree: PyTree) -> PyTree:
    """Return the leaves in float32 or wider."""
    return jax.tree.map(lambda x: x.astype(_widen(x.dtype)), tree)


def zeros(tree: PyTree) -> PyTree:
    """Return zeros to add up leaves in, in float32 or wider."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, _widen(x.dtype)), tree)


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
    floats = jax.tree.leaves(split_floats(tree)[0])
    finite = [_is_finite(leaf) for leaf in floats]
    return jnp.stack(finite).all() if finite else jnp.asarray(True)


def _is_finite(leaf: Array) -> Array:
    # A CPU takes five times as long to reduce flags as for a product with zeros, which
    # is 0 or NaN. An accelerator may round large numbers to infinity in a product.
    def by_product(leaf: Array) -> Array:
        row = widen(leaf.ravel())
        return jnp.dot(row, jnp.zeros_like(row)) == 0

    return jax.lax.platform_dependent(
        leaf, cpu=by_product, default=lambda leaf: jnp.isfinite(leaf).all()
    )


def take(tree: PyTree, index: Any) -> PyTree:
    """Return ``leaf[index]`` of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def gather(tree: PyTree, indices: Array | np.ndarray) -> PyTree:
    """Return rows by number, [w, ...], which the tree must have.

    Few rows are cut out one by one, which a CPU does faster.
    """
    if len(indices) > _FEW:
        return take(tree, indices)
    rows = [take(tree, index) for index in indices]
    return jax.tree.map(lambda *rows: jnp.stack(rows), *rows)


def put(tree: PyTree, index: ArrayLike, rows: PyTree) -> PyTree:
    """Return ``tree`` with rows ``index`` replaced, those past the end dropped."""
    return jax.tree.map(
        lambda leaf, row: leaf.at[index].set(row, mode="drop"), tree, rows
    )


def split_floats(tree: PyTree) -> tuple[PyTree, PyTree]:
    """Return the leaves that are floats, and the others; None in place of the rest."""
    leaves, treedef = jax.tree.flatten(tree)
    is_float = [jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in leaves]
    pairs = list(zip(leaves, is_float, strict=True))
    floats = treedef.unflatten(x if yes else None for x, yes in pairs)
    return floats, treedef.unflatten(None if yes else x for x, yes in pairs)


def fill(tree: PyTree, whole: PyTree) -> PyTree:
    """Return ``tree``, with the leaves of ``whole`` where it has None."""
    leaves, treedef = jax.tree.flatten(whole)
    pairs = zip(treedef.flatten_up_to(tree), leaves, strict=True)
    return treedef.unflatten(y if x is None else x for x, y in pairs)


class Split(NamedTuple):
    """A pytree of functions without its arrays; equal to another of the same functions.

    Attributes:
      treedef: its structure.
      rest: the leaves that are no arrays; None: there is one.
    """

    treedef: Any
    rest: tuple[Any, ...]

    def join(self, arrays: Sequence[Array]) -> PyTree:
        """Return the pytree with its arrays."""
        left = iter(arrays)
        return self.treedef.unflatten(
            next(left) if leaf is None else leaf for leaf in self.rest
        )


def split_arrays(tree: PyTree) -> tuple[Split, list[Array]]:
    """Return a pytree of functions without its arrays, and these."""
    leaves, treedef = jax.tree.flatten(tree)
    is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    pairs = list(zip(leaves, is_array, strict=True))
    rest = tuple(None if yes else leaf for leaf, yes in pairs)
    return Split(treedef, rest), [leaf for leaf, yes in pairs if yes]


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
