"""Staleness functions s(d): how much a late arrival still counts.

The staleness d is the number of versions made between the download and the mix,
0-based: a model mixed into the very version that it was trained from has d = 0 and
s(0) = 1. Every function is non-increasing with values in (0, 1].

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
section 5.2 (constant, polynomial, hinge).
"""

import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp

from fedasync_jax.base import Array, ArrayLike, StalenessFn


def constant() -> StalenessFn:
    """Return s(d) = 1: staleness is ignored.

    >>> float(constant()(7))
    1.0
    """
    return lambda staleness: jnp.ones_like(_as_float(staleness))


def polynomial(a: float) -> StalenessFn:
    """Return s(d) = (d + 1)^(-a).

    >>> [float(polynomial(0.5)(d)) for d in (0, 3, 15)]
    [1.0, 0.5, 0.25]

    Args:
      a: exponent, >= 0; the paper's experiments use 0.5.

    Raises:
      ValueError: if ``a`` is negative or not finite.
    """
    _require("polynomial", "a", a, a >= 0, ">= 0")
    return lambda staleness: (_as_float(staleness) + 1) ** -a


def hinge(a: float, b: float) -> StalenessFn:
    """Return s(d) = 1 if d <= b, else 1 / (a (d - b) + 1).

    >>> [round(float(hinge(10, 4)(d)), 6) for d in (4, 5, 6)]
    [1.0, 0.090909, 0.047619]

    Args:
      a: steepness beyond the bend, > 0.
      b: largest staleness that is not punished, in versions, >= 0.

    Raises:
      ValueError: if ``a`` <= 0 or ``b`` < 0, or one of them is not finite.
    """
    _require("hinge", "a", a, a > 0, "> 0")
    _require("hinge", "b", b, b >= 0, ">= 0")
    return lambda staleness: 1 / (a * jnp.maximum(_as_float(staleness) - b, 0) + 1)


def exponential(a: float) -> StalenessFn:
    """Return s(d) = exp(-a d).

    Args:
      a: rate per version, >= 0; the authors' code explores 0.3.

    Raises:
      ValueError: if ``a`` is negative or not finite.
    """
    _require("exponential", "a", a, a >= 0, ">= 0")
    return lambda staleness: jnp.exp(-a * _as_float(staleness))


def linear(a: float) -> StalenessFn:
    """Return s(d) = 1 / (a d + 1), which is hinge(a, 0).

    Args:
      a: slope of 1 / s per version, >= 0.

    Raises:
      ValueError: if ``a`` is negative or not finite.
    """
    _require("linear", "a", a, a >= 0, ">= 0")
    return lambda staleness: 1 / (a * _as_float(staleness) + 1)


STALENESS_FNS: Mapping[str, Callable[..., StalenessFn]] = {
    "constant": constant,
    "polynomial": polynomial,
    "hinge": hinge,
    "exponential": exponential,
    "linear": linear,
}


def _as_float(staleness: ArrayLike) -> Array:
    return jnp.asarray(staleness, dtype=float)


def _require(name: str, field: str, value: float, holds: bool, allowed: str) -> None:
    if not (holds and math.isfinite(value)):
        raise ValueError(f"{name}: {field} must be finite and {allowed}, got {value}")
