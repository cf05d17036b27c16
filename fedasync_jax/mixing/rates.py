"""A mixing weight alpha that changes on the way: a schedule of the version."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, ArrayLike

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
