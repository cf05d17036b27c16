"""An evaluation over the devices: each does some of the pieces, the sums are added.

Where the model lies on devices of several processes, each process does the shares of
its own devices, and all get the same sums.

Shapes: D devices.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedasync_jax import tree
from fedasync_jax.base import Array, PyTree, Variables

Devices = tuple[Any, ...]


def split_devices(variables: Variables) -> dict[Any, Variables]:
    """Return the copy of a replicated model that lies on each device of this host."""
    leaves, treedef = jax.tree.flatten(jax.tree.map(jnp.asarray, variables))
    widest = _find_widest(leaves)
    here = [shard.device for shard in widest.addressable_shards]

    def split(leaf: Array) -> list[Array]:
        # A leaf that was joined from elsewhere, such as a frozen one, may lie on fewer.
        if leaf.sharding.device_set != widest.sharding.device_set:
            return [jax.device_put(leaf, device) for device in here]
        copies = {shard.device: shard.data for shard in leaf.addressable_shards}
        return [copies[device] for device in here]

    each = zip(*map(split, leaves), strict=True)
    return {
        device: treedef.unflatten(copies)
        for device, copies in zip(here, each, strict=True)
    }


def find_devices(variables: Variables) -> Devices:
    """Return the devices on which a model lies, those of other processes among them."""
    widest = _find_widest(list(map(jnp.asarray, jax.tree.leaves(variables))))
    if widest.is_fully_addressable:
        return tuple(shard.device for shard in widest.addressable_shards)
    everywhere = widest.sharding.device_set
    return tuple(sorted(everywhere, key=lambda one: (one.process_index, one.id)))


def deal_pieces(
    common: PyTree, pieces: Sequence[PyTree], devices: Devices
) -> dict[Any, tuple[Any, list[Any]]]:
    """Return what each device of this host has: ``common`` and its share of ``pieces``.

    Devices beyond the number of pieces have none and are left out. Only where other
    processes wait for their sums do they the first piece again, which is not used.
    """
    count = len(pieces) if _are_here(devices) else len(devices)
    return {
        device: jax.device_put(
            (common, pieces[i :: len(devices)] or pieces[:1]), device
        )
        for i, device in enumerate(devices[:count])
        if device.process_index == jax.process_index()
    }


def add_over_devices(
    sums: Mapping[Any, dict[str, Array]], devices: Devices, num_pieces: int
) -> dict[str, Array]:
    """Return the sums over all devices, on the first one of this host.

    Args:
      sums: of the devices of this host, see ``deal_pieces``.
      devices: all D.
      num_pieces: how many there are.
    """
    used = devices[:num_pieces]
    if _are_here(devices):
        # To one device by copies, not by a collective: those may wait for one another
        # when many programs are in flight.
        return add_sums([jax.device_put(sums[device], used[0]) for device in used])
    mesh = Mesh(np.array(devices), ("devices",))
    cut = NamedSharding(mesh, PartitionSpec("devices"))

    def join(*leaves: Array) -> Array:
        rows = [leaf[None] for leaf in leaves]
        shape = (len(devices), *leaves[0].shape)
        return jax.make_array_from_single_device_arrays(shape, cut, rows)

    gather = _compile_gather(NamedSharding(mesh, PartitionSpec()))
    every = gather(jax.tree.map(join, *sums.values()))
    here = jax.tree.map(lambda leaf: leaf.addressable_data(0), every)
    return add_sums([tree.take(here, i) for i in range(len(used))])


def add_sums(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """Return the sums of sums, of the same names each."""
    return parts[0] if len(parts) == 1 else _sum_all(parts)


def _are_here(devices: Devices) -> bool:
    return all(device.process_index == jax.process_index() for device in devices)


def _find_widest(leaves: list[Array]) -> Array:
    return max(leaves, key=lambda leaf: len(leaf.sharding.device_set))


@functools.lru_cache(maxsize=2)
def _compile_gather(sharding: NamedSharding) -> Any:
    return jax.jit(lambda every: every, out_shardings=sharding)


@jax.jit
def _sum_all(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return jax.tree.map(lambda *leaves: jnp.sum(jnp.stack(leaves), axis=0), *parts)
