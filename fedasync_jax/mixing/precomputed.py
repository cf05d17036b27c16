"""FedAsync with its weights given one by one.

Schedule and staleness are known before a run, so alpha_t is too: as an array, any
alpha, any schedule of it and any s(d) are mere numbers, and runs that differ in them
share one compiled program (see ``engine.many``).
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import (
    Array,
    Guarded,
    Mixer,
    MixInfo,
    PyTree,
    Schedule,
    StalenessFn,
)
from fedasync_jax.mixing.rates import AlphaSchedule, make_rates, weigh_staleness


def weighted(weights: np.ndarray) -> Mixer:
    r"""Return the rule x <- (1 - alpha_t) x + alpha_t x_new with alpha_t from a table.

    .. math::

        x_t = (1 - \alpha_t) x_{t-1} + \alpha_t x_{new}

    Args:
      weights: float [T], alpha_t of the arrival that is mixed into version t, in
        [0, 1].

    Raises:
      ValueError: if a weight is outside of [0, 1].
    """
    weights = np.asarray(weights, np.float32)
    if not ((weights >= 0) & (weights <= 1)).all():
        raise ValueError(
            f"weights must be in [0, 1], got values in "
            f"[{weights.min()}, {weights.max()}]"
        )
    return Mixer(_init, jax.tree_util.Partial(_guarded_update, weights))


def make_weights(
    alpha: float | AlphaSchedule, staleness_fn: StalenessFn, staleness: np.ndarray
) -> np.ndarray:
    """Return alpha_t = alpha s(d_t) of every arrival, float32 [T].

    Each value is computed from t and d_t alone, so that a longer schedule begins with
    the same bits.

    Args:
      alpha: as of ``fedasync``.
      staleness_fn: s(d).
      staleness: int [T], d of the arrival that is mixed into version t.
    """
    return scale_weights(alpha, weigh_staleness(staleness_fn, staleness))


def scale_weights(alpha: float | AlphaSchedule, s: np.ndarray) -> np.ndarray:
    """Return alpha s of every arrival, float32 [T], given s(d_t)."""
    return (make_rates(alpha, len(s)) if callable(alpha) else np.float32(alpha)) * s


def _init(model: PyTree) -> PyTree:
    del model
    return ()


def _update(
    weights: Array,
    local: PyTree,
    state: PyTree,
    current: PyTree,
    *,
    start: PyTree,
    staleness: Array,
    version: Array,
    client: Array,
) -> tuple[PyTree, PyTree, MixInfo]:
    del start, staleness, client
    weight = jnp.asarray(weights)[version]
    mixed = tree.lerp(current, local, weight)
    return mixed, state, MixInfo(alpha=weight, applied=jnp.asarray(True))


def _check(schedule: Schedule, weights: Array) -> None:
    if len(weights) < schedule.num_updates:
        raise ValueError(
            f"weights must be one per update, {schedule.num_updates} for this "
            f"schedule, got {len(weights)}"
        )


_guarded_update = Guarded(_update, _check, linear=True)
