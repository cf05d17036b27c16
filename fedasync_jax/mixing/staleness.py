"""Staleness functions s(d): how much a late arrival still counts.

The staleness d is the number of versions made between the download and the mix,
0-based: a model mixed into the very version that it was trained from has d = 0 and
s(0) = 1. Every function is non-increasing with values in (0, 1].

A new one is a factory, here or anywhere, and an entry in ``STALENESS_FNS``. Its
settings are called after both, such as ``hinge_a``.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
section 5.2 (constant, polynomial, hinge).
"""

from typing import Annotated

import jax.numpy as jnp

from fedasync_jax.base import Array, ArrayLike, StalenessFn
from fedasync_jax.parts.bounds import above, at_least
from fedasync_jax.parts.registry import Registry, checked


def constant() -> StalenessFn:
    """Return s(d) = 1: staleness is ignored.

    .. math::

        s(d) = 1

    >>> float(constant()(7))
    1.0
    """
    return lambda staleness: jnp.ones_like(_as_float(staleness))


@checked
def polynomial(a: Annotated[float, at_least(0)] = 0.5) -> StalenessFn:
    """Return s(d) = (d + 1)^(-a).

    .. math::

        s(d) = (d + 1)^{-a}

    >>> [float(polynomial(0.5)(d)) for d in (0, 3, 15)]
    [1.0, 0.5, 0.25]

    Args:
      a: exponent, >= 0; the paper's experiments use 0.5.

    Raises:
      ValueError: if ``a`` is negative or not finite.
    """
    return lambda staleness: (_as_float(staleness) + 1) ** -a


@checked
def hinge(
    a: Annotated[float, above(0)] = 10.0, b: Annotated[float, at_least(0)] = 4.0
) -> StalenessFn:
    r"""Return s(d) = 1 if d <= b, else 1 / (a (d - b) + 1).

    .. math::

        s(d) = \frac{1}{1 + a \max(d - b, 0)}

    >>> [round(float(hinge(10, 4)(d)), 6) for d in (4, 5, 6)]
    [1.0, 0.090909, 0.047619]

    Args:
      a: steepness beyond the bend, > 0.
      b: largest staleness that is not punished, in versions, >= 0; sensible near the
        staleness that occurs.

    Raises:
      ValueError: if ``a`` <= 0 or ``b`` < 0, or one of them is not finite.
    """
    return lambda staleness: 1 / (a * jnp.maximum(_as_float(staleness) - b, 0) + 1)


@checked
def exponential(a: Annotated[float, at_least(0)] = 0.3) -> StalenessFn:
    """Return s(d) = exp(-a d).

    .. math::

        s(d) = e^{-a d}

    Args:
      a: rate per version, >= 0; the authors' code explores 0.3.

    Raises:
      ValueError: if ``a`` is negative or not finite.
    """
    return lambda staleness: jnp.exp(-a * _as_float(staleness))


@checked
def linear(a: Annotated[float, at_least(0)] = 1.0) -> StalenessFn:
    r"""Return s(d) = 1 / (a d + 1), which is hinge(a, 0).

    .. math::

        s(d) = \frac{1}{1 + a d}

    Args:
      a: slope of 1 / s per version, >= 0.

    Raises:
      ValueError: if ``a`` is negative or not finite.
    """
    return lambda staleness: 1 / (a * _as_float(staleness) + 1)


STALENESS_FNS: Registry[StalenessFn] = Registry("staleness", prefix="{name}_")
STALENESS_FNS.register("constant", constant)
STALENESS_FNS.register("polynomial", polynomial)
STALENESS_FNS.register("hinge", hinge)
STALENESS_FNS.register("exponential", exponential)
STALENESS_FNS.register("linear", linear)


def _as_float(staleness: ArrayLike) -> Array:
    return jnp.asarray(staleness, dtype=float)
