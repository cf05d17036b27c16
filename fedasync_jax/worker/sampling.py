"""Which samples a task trains on, and in how many steps: passes or draws.

Shapes: H steps, B samples a batch, n_i samples of client i.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, ClientData


def steps_per_task(
    counts: np.ndarray | Array, *, batch_size: int, epochs: float
) -> np.ndarray:
    """Return H of every client for a number of passes over its own samples.

    >>> steps_per_task(np.array([500, 18, 3]), batch_size=50, epochs=1).tolist()
    [10, 1, 1]

    Args:
      counts: int [C], n_i.
      batch_size: B >= 1.
      epochs: passes over the client's samples, > 0.

    Returns:
      int32 [C], ceil(epochs * n_i / B).

    Raises:
      ValueError: if ``batch_size`` < 1 or ``epochs`` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    if not 0 < epochs < math.inf:
        raise ValueError(f"epochs must be finite and > 0, got {epochs}")
    exact = np.asarray(counts) * epochs / batch_size
    steps = np.ceil(exact - 1e-9)  # 1.1 * 110 is a little more than 121
    return np.maximum(steps, 1).astype(np.int32)


def sample_rows(
    data: ClientData,
    client: Array,
    key: Array,
    *,
    max_steps: int,
    batch_size: int,
    max_count: int | None,
) -> Array:
    """Return int32 [max_steps, B], rows of ``data.arrays`` for every step.

    Args:
      data: samples of all clients.
      client: int32 [], whose.
      key: source of the order.
      max_steps: H at most.
      batch_size: B.
      max_count: the most samples that a client has; None: draw with replacement.
    """
    num_draws = max_steps * batch_size
    count = data.counts[client]
    if max_count is None:
        drawn = jax.random.randint(key, (num_draws,), 0, count, jnp.int32)
    else:
        drawn = _shuffled_passes(key, count, num_draws, max_count)
    rows = data.indices[data.offsets[client] + drawn]
    return rows.reshape(max_steps, batch_size)


def find_max_count(data: ClientData) -> int:
    """Return the number of samples of the largest client."""
    return int(np.max(np.asarray(data.counts)))


def _shuffled_passes(key: Array, count: Array, length: int, max_count: int) -> Array:
    """Return int32 [length]: passes over 0 .. count-1, each in an order of its own.

    One sort does all passes: position p belongs to pass p // count and stands for the
    sample p % count; sorted by (pass, random number), every pass keeps its place and is
    shuffled in itself. ``max_count - 1`` positions more than asked for complete the
    last pass before it is cut off.
    """
    position = jnp.arange(length + max_count - 1, dtype=jnp.int32)
    random = jax.random.bits(key, position.shape)
    operands = (position // count, random, position % count)
    return jax.lax.sort(operands, num_keys=2)[2][:length]
