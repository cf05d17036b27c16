"""Quantity skew: clients differ in how much they own, in all else by chance alone.

Shapes: N samples, C clients.
"""

import math
from typing import Annotated

import numpy as np

from fedasync_jax.data.partition.apportion import raise_to_minimum, round_shares
from fedasync_jax.data.partition.base import (
    Partition,
    check_num_clients,
    check_per_client,
    deal,
)
from fedasync_jax.parts.bounds import at_least
from fedasync_jax.parts.convert import converted


@converted
def quantity_skew(
    num_samples: int,
    num_clients: int,
    *,
    sigma: Annotated[float, at_least(0)] = 1.0,
    min_samples: int = 1,
    rng: np.random.Generator,
) -> Partition:
    """Deal a random permutation in slices of log-normal sizes: only sizes differ.

    Sizes are in proportion to exp(sigma z_i), z_i standard normal, and sum to N. Those
    below ``min_samples`` are raised to it at the cost of the largest.

    Args:
      num_samples: N.
      num_clients: C, in 1..N.
      sigma: standard deviation of the logarithm of the sizes, finite, >= 0; at 0 all
        sizes are equal (up to one).
      min_samples: least number of samples per client, in 1..N // C.
      rng: source of the sizes and of the permutation.

    Raises:
      ValueError: if an argument is out of range.
    """
    _check(num_samples, num_clients, min_samples, "sigma", sigma)
    normal = rng.standard_normal(num_clients)
    # The largest share is exp(0), so that no sigma overflows.
    shares = np.exp(sigma * (normal - normal.max()))
    return _deal_by_shares(shares, num_samples, min_samples, rng)


@converted
def power_law(
    num_samples: int,
    num_clients: int,
    *,
    exponent: Annotated[float, at_least(0)] = 1.0,
    min_samples: int = 1,
    rng: np.random.Generator,
) -> Partition:
    """Deal a random permutation in slices of Zipf's sizes: only sizes differ.

    Sizes are in proportion to r_i^(-exponent) and sum to N, where the ranks r_i are
    1..C in random order: few clients own much and many own little. Those below
    ``min_samples`` are raised to it at the cost of the largest.

    Args:
      num_samples: N.
      num_clients: C, in 1..N.
      exponent: exponent of the sizes, finite, >= 0; 1 is Zipf's law, and 0 makes all
        sizes equal (up to one).
      min_samples: least number of samples per client, in 1..N // C.
      rng: source of the ranks and of the permutation.

    Raises:
      ValueError: if an argument is out of range.

    Reference: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys
    2020, section 5, whose devices have numbers of samples that follow a power law.
    """
    _check(num_samples, num_clients, min_samples, "exponent", exponent)
    ranks = rng.permutation(num_clients) + 1.0
    return _deal_by_shares(ranks**-exponent, num_samples, min_samples, rng)


def _check(
    num_samples: int, num_clients: int, min_samples: int, name: str, value: float
) -> None:
    check_num_clients(num_clients, num_samples)
    check_per_client("min_samples", min_samples, num_clients, num_samples)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {value}")


def _deal_by_shares(
    shares: np.ndarray, num_samples: int, min_samples: int, rng: np.random.Generator
) -> Partition:
    sizes = round_shares(shares, num_samples, rng=rng)
    return deal(rng.permutation(num_samples), raise_to_minimum(sizes, min_samples))
