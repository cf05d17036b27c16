"""Laws: distributions of positive factors without unit, of how slow somebody is.

A new law is a factory here, or anywhere, and an entry in ``DELAY_LAWS``. Clients, tasks
and networks each have one; its settings are called ``client_sigma``, ``task_sigma``,
``network_sigma``.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from fedasync_jax.fleet.delay_law import DelayLaw
from fedasync_jax.parts.bounds import Free, PositiveRange, Shares, above, at_least
from fedasync_jax.parts.registry import Registry, checked

_LONGEST = 1e12  # a factor at most, so that heavy tails stay finite


def constant() -> DelayLaw:
    """Return the law whose factor is always 1."""
    return lambda rng, size: np.ones(size)


def uniform(low: float, high: float) -> DelayLaw:
    """Return the uniform law on [low, high).

    Raises:
      ValueError: unless 0 < ``low`` <= ``high`` < infinity.
    """
    if not 0 < low <= high < math.inf:
        raise ValueError(
            f"uniform: need 0 < low <= high < inf, got low={low}, high={high}"
        )
    return lambda rng, size: rng.uniform(low, high, size)


def exponential() -> DelayLaw:
    """Return the exponential law with mean 1: delays without memory."""
    return lambda rng, size: np.maximum(
        rng.standard_exponential(size), np.finfo(float).tiny
    )


@checked
def log_normal(sigma: Annotated[float, at_least(0)] = 1.0) -> DelayLaw:
    """Return the law exp(sigma Z), Z standard normal: median 1, a heavy right tail.

    Args:
      sigma: standard deviation of the logarithm of the factors.

    Raises:
      ValueError: if ``sigma`` is negative or not finite.
    """
    return lambda rng, size: rng.lognormal(0.0, sigma, size)


@checked
def pareto(shape: Annotated[float, above(0)] = 2.0) -> DelayLaw:
    """Return the Pareto law with minimum 1: P(factor > x) = x^(-shape), x >= 1.

    Args:
      shape: exponent of the law; the mean, shape / (shape - 1), is infinite for 1 and
        below.

    Raises:
      ValueError: if ``shape`` is not positive and finite.
    """
    return lambda rng, size: np.minimum(1 + rng.pareto(shape, size), _LONGEST)


def tiers(
    shares: Annotated[Sequence[float], Shares()] = (0.2,),
    factors: Annotated[Sequence[float], Free()] = (8.0,),
) -> DelayLaw:
    """Return the law of classes of devices, such as: 20% are 8 times slower.

    >>> law = tiers([0.2], [8.0])
    >>> sorted(set(law(np.random.default_rng(0), 100).tolist()))
    [1.0, 8.0]

    Args:
      shares: share of the devices in each class; all other devices have factor 1.
      factors: factor of each class.

    Raises:
      ValueError: if the shares sum to more than 1, a number is not positive, or there
        are not as many factors as shares.
    """
    share, factor = np.array(shares, float), np.array(factors, float)
    if not (share > 0).all() or not share.sum() <= 1 + 1e-9:
        raise ValueError(
            f"tiers: shares must be > 0 and sum to 1 at most, got {tuple(shares)}"
        )
    if factor.shape != share.shape or not ((factor > 0) & (factor < np.inf)).all():
        raise ValueError(
            f"tiers: factors must be {len(share)} numbers (one per share), finite and "
            f"> 0, got {tuple(factors)}"
        )
    ends, values = np.cumsum(share), np.append(factor, 1.0)
    return lambda rng, size: values[np.searchsorted(ends, rng.random(size), "right")]


def _uniform_between(
    range: Annotated[tuple[float, float], PositiveRange()] = (0.5, 1.5),
) -> DelayLaw:
    """Return the uniform law.

    Args:
      range: lowest and highest factor.
    """
    return uniform(*range)


DELAY_LAWS: Registry[DelayLaw] = Registry("law")
DELAY_LAWS.register("constant", constant)
DELAY_LAWS.register("uniform", _uniform_between)
DELAY_LAWS.register("exponential", exponential)
DELAY_LAWS.register("log-normal", log_normal)
DELAY_LAWS.register("pareto", pareto)
DELAY_LAWS.register("tiers", tiers, shares="tier_shares", factors="tier_factors")
