"""Numbers of a schedule beforehand: alpha of every version, s(d) of every arrival."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, ArrayLike, StalenessFn

AlphaSchedule = Callable[[Array], ArrayLike]


def make_rates(alpha: AlphaSchedule, num_updates: int) -> np.ndarray:
    """Return the values of a schedule of alpha, float32 [T].

    Raises:
      ValueError: if one of them is outside (0, 1].
    """
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules rely on it
        versions = jnp.arange(num_updates)
        rates = jax.lax.map(lambda t: jnp.asarray(alpha(t), jnp.float32), versions)
    rates = np.asarray(rates)
    is_right = (rates > 0) & (rates <= 1)
    if not is_right.all():
        version = int(np.argmin(is_right))
        raise ValueError(
            f"alpha must be in (0, 1], got {rates[version]} at version {version}"
        )
    return rates


def weigh_staleness(staleness_fn: StalenessFn, staleness: np.ndarray) -> np.ndarray:
    """Return s(d_t) of every arrival, float32 [T]; s is asked once for each d."""
    values, places = np.unique(staleness, return_inverse=True)
    s = np.array([_weigh(staleness_fn, d) for d in values.tolist()], np.float32)
    return s[places]


@functools.lru_cache(maxsize=2**16)
def _weigh(staleness_fn: StalenessFn, d: int) -> float:
    return float(staleness_fn(jnp.int32(d)))
