"""Evaluation of a model on a whole data set, in compiled pieces.

Shapes: N samples, B samples at a time, D devices.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Model, PyTree, Variables


def make_evaluate(
    model: Model, arrays: PyTree, *, batch_size: int = 1024, axis: int = 0
) -> Callable[[Variables], dict[str, Array]]:
    """Return ``evaluate(variables) -> metrics``, the means over all N samples.

    Where a model lies on several devices, as in a run over a mesh, each of them does
    its share of the pieces.

    Args:
      model: its ``metrics`` gives sums and their ``"count"``.
      arrays: pytree of arrays with N samples along ``axis``; put on the devices once.
      batch_size: B, samples in memory at a time, or fewer; the last may be shorter.
      axis: which axis is cut; 2 for texts side by side [batches, tokens, texts], whose
        hidden state passes along axis 0.

    Raises:
      ValueError: if there is no sample or ``batch_size`` < 1.

    Returns:
      A function that enqueues its work and does not wait for it; the values lie on
      the device, of the shapes that ``metrics`` gives them, without ``"count"``.
    """
    num_samples = jax.tree.leaves(arrays)[0].shape[axis]
    if num_samples < 1 or batch_size < 1:
        raise ValueError(
            "evaluation needs at least 1 sample and batch_size >= 1, got "
            f"{num_samples} samples and batch_size {batch_size}"
        )
    functions, constants = tree.split_arrays(model)  # such as frozen parameters

    @jax.jit
    def metrics(
        constants: list[Array], variables: Variables, batch: PyTree
    ) -> dict[str, Array]:
        return functions.join(constants).metrics(variables, batch)

    @functools.lru_cache(maxsize=1)
    def place(devices: tuple[Any, ...]) -> list[tuple[list[Array], list[PyTree]]]:
        """Return every device's copy of the constants and its share of the batches."""
        turns = -(-num_samples // (batch_size * len(devices)))
        size = -(-num_samples // (turns * len(devices)))  # about equal: few programs
        batches = [
            jax.tree.map(lambda leaf, b=b: _cut(leaf, axis, b, b + size), arrays)
            for b in range(0, num_samples, size)
        ]
        return [
            jax.device_put((constants, batches[i :: len(devices)]), device)
            for i, device in enumerate(devices)
        ]

    def evaluate(variables: Variables) -> dict[str, Array]:
        models = split_devices(variables)
        shares = place(tuple(models))
        sums = [
            add_sums([metrics(copies, local, batch) for batch in share])
            for local, (copies, share) in zip(models.values(), shares, strict=True)
            if share
        ]
        # To one device by copies, not by a collective: those may wait for one another
        # when many programs are in flight.
        first = next(iter(models))
        return _means(add_sums([jax.device_put(part, first) for part in sums]))

    return evaluate


def _cut(leaf: Any, axis: int, begin: int, end: int) -> np.ndarray:
    return np.asarray(leaf)[(slice(None),) * axis + (slice(begin, end),)]


def split_devices(variables: Variables) -> dict[Any, Variables]:
    """Return the copy of a replicated model that lies on each device of this host."""
    variables = jax.tree.map(jnp.asarray, variables)
    leaves, treedef = jax.tree.flatten(variables)
    # A leaf that was joined from elsewhere, such as a frozen one, may lie on fewer.
    widest = max(leaves, key=lambda leaf: len(leaf.sharding.device_set)).sharding
    leaves = [jax.device_put(leaf, widest) for leaf in leaves]
    shards = [leaf.addressable_shards for leaf in leaves]
    return {
        each[0].device: treedef.unflatten([shard.data for shard in each])
        for each in zip(*shards, strict=True)
    }


def add_sums(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """Return the sums of sums, of the same names each."""
    return parts[0] if len(parts) == 1 else _sum_all(parts)


@jax.jit
def _sum_all(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return jax.tree.map(lambda *leaves: jnp.sum(jnp.stack(leaves), axis=0), *parts)


@jax.jit
def _means(sums: dict[str, Array]) -> dict[str, Array]:
    if "count" not in sums:
        raise ValueError(
            f"metrics must return a sum called count, got {', '.join(sums) or 'none'}"
        )
    return {k: v / sums["count"] for k, v in sums.items() if k != "count"}
