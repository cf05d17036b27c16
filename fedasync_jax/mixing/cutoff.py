"""A cut-off: changes that are too stale are dropped.

x <- x + eta Delta if d < R, else x; Delta = y - x_tau.

Reference: Maranjyan, Tyurin, Richtarik, "Ringmaster ASGD", arXiv 2501.16168, Algorithm
1. Sure in form: the paper takes a gradient where this takes the change of a task, and
its server makes no version of an arrival that it drops, while here every arrival
counts.
"""

from typing import Annotated

import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Mixer
from fedasync_jax.mixing.by_weight import (
    Weigher,
    add_change,
    make_weighted_rule,
    nothing,
)
from fedasync_jax.parts.bounds import above, at_least
from fedasync_jax.parts.registry import checked


@checked
def cutoff(
    step: Annotated[float, above(0)] = 0.1, limit: Annotated[int, at_least(1)] = 32
) -> Mixer:
    r"""Return the rule that adds eta (y - x_tau) if d < R.

    .. math::

        x \leftarrow x + \eta (y - x_\tau) \quad \text{if } d < R

    An arrival that is dropped has the weight 0. Where speeds are fixed, it drops the
    data of the slow.

    Args:
      step: factor on the change (eta), > 0.
      limit: staleness from which an arrival is dropped (R), in versions, >= 1; the
        theory's value is the variance of a gradient over the accuracy aimed at, at
        least 1.

    Raises:
      ValueError: if a setting is out of range.
    """
    number = np.float32(step)
    return make_weighted_rule(
        add_change,
        Weigher(
            lambda d, mean: jnp.where(d < limit, step, 0.0),
            lambda arrivals: np.where(arrivals.staleness < limit, number, 0).astype(
                np.float32
            ),
        ),
        nothing,
        linear=True,
    )
