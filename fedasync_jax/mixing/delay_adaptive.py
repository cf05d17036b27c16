"""Delay-adaptive steps: only arrivals later than usual count for less.

x <- x + eta min(1, d_c / d) Delta, Delta = y - x_tau.

Reference: Koloskova, Stich, Jaggi, "Sharper Convergence Guarantees for Asynchronous SGD
for Distributed and Federated Learning", NeurIPS 2022, arXiv 2206.08307. Sure in form:
the paper takes the gradient where this takes the change of a task, and d_c is the
number of tasks in flight.
"""

from typing import Annotated

import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, Arrivals, Mixer
from fedasync_jax.mixing.by_weight import (
    Weigher,
    add_change,
    make_weighted_rule,
    mean_so_far,
    nothing,
)
from fedasync_jax.parts.bounds import above
from fedasync_jax.parts.registry import checked


@checked
def delay_adaptive(
    step: Annotated[float, above(0)] = 0.1,
    usual: Annotated[float, above(0)] | None = None,
) -> Mixer:
    r"""Return the rule x <- x + eta min(1, d_c / d) (y - x_tau).

    .. math::

        x \leftarrow x + \eta \min\left(1, \frac{d_c}{d}\right) (y - x_\tau)

    Args:
      step: factor on a change that is not later than usual (eta), > 0.
      usual: usual delay (d_c), in versions, > 0; by default the mean staleness of the
        arrivals so far, which is one less than the number of tasks in flight.

    Raises:
      ValueError: if a setting is out of range.
    """

    def weigh(d: Array, mean: Array) -> Array:
        bend = mean if usual is None else usual
        late = jnp.minimum(1.0, bend / jnp.maximum(d, 1.0))
        return step * jnp.where(d > 0, late, 1.0)

    def weights(arrivals: Arrivals) -> np.ndarray:
        d = arrivals.staleness
        bend = mean_so_far(d) if usual is None else usual
        late = np.minimum(1.0, bend / np.maximum(d, 1))
        return (step * np.where(d > 0, late, 1.0)).astype(np.float32)

    weigher = Weigher(weigh, weights)
    return make_weighted_rule(add_change, weigher, nothing, linear=True)
