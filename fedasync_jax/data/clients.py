"""From a data set and a partition to the record that training reads."""

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import ClientData, PyTree
from fedasync_jax.data.columns import is_table, read_columns
from fedasync_jax.data.partition.base import Partition
from fedasync_jax.parts.bounds import shorten
from fedasync_jax.parts.convert import converted

_INT32_MAX = np.iinfo(np.int32).max


def make_client_data(arrays: PyTree, partition: Partition) -> ClientData:
    """Join samples and their owners; on the host, nothing is copied or moved.

    >>> part = Partition(np.array([2, 0, 1]), np.array([1, 2]))
    >>> data = make_client_data({"x": np.zeros((3, 8)), "y": np.zeros(3)}, part)
    >>> data.indices.tolist(), data.offsets.tolist(), data.counts.tolist()
    ([2, 0, 1], [0, 1], [1, 2])

    Args:
      arrays: pytree of arrays [N, ...]; one sample is one row of every leaf. Or a
        table, such as a split of Hugging Face's ``datasets`` or a data frame of pandas,
        whose columns of numbers become such arrays by their names (``read_columns``).
      partition: of the N rows over C clients. Clients may share rows and leave rows
        out; none may be empty.

    Raises:
      ValueError: if a leaf is a list, such as one of rows, or holds what the device
        cannot: texts, objects, times, integers or reals beyond its 32 bits (unless
        ``jax_enable_x64`` is set); if the leaves differ in N, an index is not in
        0..N-1, a client is empty, the counts do not sum to the number of indices, or a
        number does not fit into int32.

    Returns:
      Leaves as NumPy arrays [N, ...], indices int32 [M], offsets int32 [C], counts
      int32 [C].
    """
    arrays = _to_arrays(read_columns(arrays) if is_table(arrays) else arrays)
    num_samples = _count_samples(arrays)
    indices = _as_integers("indices", partition.indices)
    counts = _as_integers("counts", partition.counts)
    _check_range("indices", indices, 0, num_samples - 1)
    _check_range("counts", counts, 1, len(indices))
    ends = np.cumsum(counts, dtype=np.int64)
    if ends[-1] != len(indices):
        raise ValueError(
            f"counts must sum to {len(indices)} (the number of indices), got {ends[-1]}"
        )
    offsets = (ends - counts).astype(np.int32)
    indices, counts = (a.astype(np.int32, copy=False) for a in (indices, counts))
    return ClientData(arrays, indices, offsets, counts)


@converted
def pool_clients(
    data: ClientData,
    samples_per_task: np.ndarray,
    *,
    replacement: bool = False,
    rng: np.random.Generator,
) -> ClientData:
    """Return what single-thread SGD reads: passes over all samples, cut into tasks.

    "Client" i of the result owns the samples of task i. One after the other they are an
    endless row of passes over the samples of all clients together, each pass in an
    order of its own.

    >>> data = make_client_data(np.zeros(6), Partition(np.arange(6), np.array([4, 2])))
    >>> pooled = pool_clients(data, np.full(3, 2), rng=np.random.default_rng(0))
    >>> sorted(pooled.indices.tolist()), pooled.offsets.tolist()
    ([0, 1, 2, 3, 4, 5], [0, 2, 4])

    Args:
      data: M index entries over C clients. A row that no client owns stays out, one
        that two clients own counts twice.
      samples_per_task: int [n], n >= 1, all >= 1; steps of a task times their batch.
      replacement: draw every sample on its own instead.
      rng: source of all randomness.

    Raises:
      ValueError: if a number is out of range.

    Returns:
      The arrays of ``data``, not copies, over n clients.
    """
    rows = np.asarray(data.indices)
    counts = np.asarray(samples_per_task, np.int64)
    length = int(counts.sum())
    if counts.min(initial=1) < 1 or not 1 <= length <= _INT32_MAX:
        raise ValueError(
            f"samples_per_task must be >= 1 each and in 1..{_INT32_MAX} in all, got "
            f"{counts.min(initial=1)} at least and {length} in all"
        )
    if replacement:
        indices = rng.choice(rows, length)
    else:
        num_passes = -(-length // len(rows))
        passes = [rng.permutation(rows) for _ in range(num_passes)]
        indices = np.concatenate(passes)[:length]
    return data._replace(
        indices=indices.astype(np.int32),
        offsets=(counts.cumsum() - counts).astype(np.int32),
        counts=counts.astype(np.int32),
    )


def _to_arrays(arrays: PyTree) -> PyTree:
    """Return the leaves as arrays of numbers that the device can hold."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(
        arrays, is_leaf=lambda node: isinstance(node, list | str | bytes)
    )
    named = [(f"arrays{jax.tree_util.keystr(path)}", leaf) for path, leaf in leaves]
    for name, leaf in named:
        # A list of rows would be as many leaves, each with a row for samples.
        if isinstance(leaf, list | str | bytes):
            raise ValueError(
                f"{name} must be an array [N, ...], got a {type(leaf).__name__} of "
                f"length {len(leaf)} (np.stack makes an array of a list of rows)"
            )
    return treedef.unflatten([_to_numbers(name, leaf) for name, leaf in named])


def _to_numbers(name: str, leaf: object) -> np.ndarray:
    """Return a leaf as an array, if the device holds it as it is."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise ValueError(f"{name} must hold numbers, got random keys")
    array = np.asarray(leaf)
    dtype = array.dtype
    if dtype.kind != "b" and not jnp.issubdtype(dtype, np.number):
        raise ValueError(f"{name} must hold numbers, got dtype {dtype}")
    held = jax.dtypes.canonicalize_dtype(dtype)
    if held != dtype and array.size:
        _check_held(name, array, held)
    return array


def _check_held(name: str, array: np.ndarray, held: np.dtype) -> None:
    """Refuse numbers beyond a smaller dtype; NaN and infinity are held."""
    if array.dtype.kind == "c":
        _check_held(name, np.real(array), np.finfo(held).dtype)
        _check_held(name, np.imag(array), np.finfo(held).dtype)
        return
    is_real = array.dtype.kind == "f"
    limits = np.finfo(held) if is_real else np.iinfo(held)
    low, high = array.dtype.type(limits.min), array.dtype.type(limits.max)
    wrong = (array < low) | (array > high)
    if is_real:
        wrong &= np.isfinite(array)
    if wrong.any():
        raise ValueError(
            f"{name} must hold numbers in {low}..{high} ({held}, unless jax_enable_x64 "
            f"is set), got {array[wrong].flat[0]}"
        )


def _count_samples(arrays: PyTree) -> int:
    """Return N, the leading length that all leaves share."""
    shapes = {
        f"arrays{jax.tree_util.keystr(path)}": leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)
    }
    lengths = {shape[0] if shape else 0 for shape in shapes.values()}
    if len(lengths) != 1 or not 1 <= max(lengths) <= _INT32_MAX:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"arrays must share one leading length in 1..{_INT32_MAX}, "
            f"got shapes {shorten(found) or 'of no array'}"
        )
    return lengths.pop()


def _as_integers(name: str, values: object) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be a one-dimensional array of integers, "
            f"got shape {array.shape}, dtype {array.dtype}"
        )
    if not 1 <= len(array) <= _INT32_MAX:
        raise ValueError(f"{name} must have 1..{_INT32_MAX} entries, got {len(array)}")
    return array


def _check_range(name: str, values: np.ndarray, low: int, high: int) -> None:
    if values.min() < low or values.max() > high:
        where = int(np.argmax((values < low) | (values > high)))
        raise ValueError(
            f"{name} must be in {low}..{high}, got {values[where]} at position {where}"
        )
