"""Evaluation of a model on a whole data set, in compiled pieces.

Shapes: N samples, B samples at a time, D devices.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Model, PyTree, Variables
from fedasync_jax.worker.shares import (
    Devices,
    add_over_devices,
    add_sums,
    deal_pieces,
    find_devices,
    split_devices,
)


def make_evaluate(
    model: Model, arrays: PyTree, *, batch_size: int = 1024, axis: int = 0
) -> Callable[[Variables], dict[str, Array]]:
    """Return ``evaluate(variables) -> metrics``, the means over all N samples.

    Where a model lies on several devices, as in a run over a mesh, each of them does
    its share of the pieces, also those of other processes.

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
    def place(devices: Devices) -> tuple[dict[Any, Any], int]:
        """Return what each device has, see ``deal_pieces``, and how many batches."""
        turns = -(-num_samples // (batch_size * len(devices)))
        size = -(-num_samples // (turns * len(devices)))  # about equal: few programs
        batches = [
            jax.tree.map(lambda leaf, b=b: _cut(leaf, axis, b, b + size), arrays)
            for b in range(0, num_samples, size)
        ]
        return deal_pieces(constants, batches, devices), len(batches)

    def evaluate(variables: Variables) -> dict[str, Array]:
        devices = find_devices(variables)
        shares, num_batches = place(devices)
        models = split_devices(variables)
        sums = {
            device: add_sums([metrics(held, models[device], batch) for batch in share])
            for device, (held, share) in shares.items()
        }
        return _means(add_over_devices(sums, devices, num_batches))

    return evaluate


def _cut(leaf: Any, axis: int, begin: int, end: int) -> np.ndarray:
    return np.asarray(leaf)[(slice(None),) * axis + (slice(begin, end),)]


@jax.jit
def _means(sums: dict[str, Array]) -> dict[str, Array]:
    if "count" not in sums:
        raise ValueError(
            f"metrics must return a sum called count, got {', '.join(sums) or 'none'}"
        )
    return {k: v / sums["count"] for k, v in sums.items() if k != "count"}
