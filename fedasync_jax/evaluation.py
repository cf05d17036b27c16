"""Evaluation of a model on a whole data set, in compiled pieces.

Shapes: N samples, B samples at a time.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedasync_jax.base import Array, Model, PyTree, Variables


def make_evaluate(
    model: Model, arrays: PyTree, *, batch_size: int = 1024
) -> Callable[[Variables], dict[str, Array]]:
    """Return ``evaluate(variables) -> metrics``, the means over all N samples.

    Args:
      model: its ``metrics`` gives sums and their ``"count"``.
      arrays: pytree of arrays [N, ...]; put on the device once.
      batch_size: B, samples in memory at a time; the last batch may be shorter.

    Raises:
      ValueError: if there is no sample or ``batch_size`` < 1.

    Returns:
      A function that enqueues its work and does not wait for it; the values are
      scalars on the device, without ``"count"``.
    """
    num_samples = jax.tree.leaves(arrays)[0].shape[0]
    if num_samples < 1 or batch_size < 1:
        raise ValueError(
            "evaluation needs at least 1 sample and batch_size >= 1, got "
            f"{num_samples} samples and batch_size {batch_size}"
        )
    parts = [slice(b, b + batch_size) for b in range(0, num_samples, batch_size)]
    batches = [
        jax.tree.map(lambda leaf, part=part: jnp.asarray(leaf[part]), arrays)
        for part in parts
    ]
    sum_metrics = jax.jit(model.metrics)

    def evaluate(variables: Variables) -> dict[str, Array]:
        return _means([sum_metrics(variables, batch) for batch in batches])

    return evaluate


@jax.jit
def _means(batches: list[dict[str, Array]]) -> dict[str, Array]:
    sums = jax.tree.map(lambda *leaves: jnp.sum(jnp.stack(leaves)), *batches)
    count = sums.pop("count")
    return {name: value / count for name, value in sums.items()}
