"""Arrays on the devices of several processes: put there, taken from there, shared.

Values that all processes have are put on the devices of each by itself; only what
process 0 alone has, such as a checkpoint, travels between them.

Shapes: D devices, one of each process.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedasync_jax.base import Array, PyTree
from fedasync_jax.engine.processes import find_processes, spans_processes

_PIECE = 2**22  # words of 32 bits that travel at a time


def replicate(values: PyTree, mesh: Mesh | None) -> PyTree:
    """Put a pytree on every device of the mesh.

    Where it has devices of several processes, all must have the same values.
    """
    if mesh is None:
        return jax.device_put(values)
    sharding = NamedSharding(mesh, PartitionSpec())
    if not spans_processes(mesh):
        return jax.device_put(values, sharding)

    def put(leaf: Any) -> Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf  # it is there
        leaf = jax.device_put(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)  # ``device_put`` would compare the values of all
        return jax.make_array_from_callback(host.shape, sharding, lambda _: host)

    return jax.tree.map(put, values)


def take_local(values: PyTree) -> PyTree:
    """Return the copy that lies on a device of this process, which needs no other.

    What no other process has a part of stays as it is.
    """

    def take(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf.addressable_data(0)
        return leaf

    return jax.tree.map(take, values)


def share_arrays(values: PyTree) -> PyTree:
    """Return in all processes the NumPy arrays that process 0 has, bit for bit.

    Random keys stay random keys.

    Args:
      values: in the other processes, arrays of the same shapes and types.
    """
    processes = find_processes()
    if processes.count == 1:
        return values
    firsts = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh(np.array([firsts[i] for i in range(processes.count)]), ("processes",))
    return jax.tree.map(functools.partial(_share, mesh, processes.is_first), values)


def _share(mesh: Mesh, is_first: bool, leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _share(mesh, is_first, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    flat = np.ascontiguousarray(array.reshape(-1)).view(np.uint8)
    words = np.pad(flat, (0, -array.nbytes % 4)).view(np.uint32)
    size = min(_PIECE, 1 << max(len(words) - 1, 0).bit_length())  # few programs
    received = np.empty(-(-len(words) // size) * size, np.uint32)
    for begin in range(0, len(words), size):
        piece = np.zeros((1, size), np.uint32)
        if is_first:
            rest = words[begin : begin + size]
            piece[0, : len(rest)] = rest
        received[begin : begin + size] = _add(mesh, piece)
    values = received.view(np.uint8)[: array.nbytes].view(array.dtype)
    return values.reshape(array.shape)


def _add(mesh: Mesh, piece: np.ndarray) -> np.ndarray:
    """Return the sum over all processes: of one that has words, and zeros."""
    cut = NamedSharding(mesh, PartitionSpec("processes"))
    shape = (mesh.size, piece.shape[1])
    every = jax.make_array_from_callback(shape, cut, lambda _: piece)
    return np.asarray(_compile_sum(NamedSharding(mesh, PartitionSpec()))(every))


@functools.lru_cache(maxsize=2)
def _compile_sum(sharding: NamedSharding) -> Any:
    return jax.jit(
        lambda every: jnp.sum(every, axis=0, dtype=every.dtype), out_shardings=sharding
    )
