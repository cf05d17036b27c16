"""Whole numbers of samples per client: even sizes, rounded shares, a lower bound.

Every function keeps the total: no sample is lost or made here.
"""

from bisect import bisect_right

import numpy as np


def even_sizes(total: int, parts: int) -> np.ndarray:
    """Return int64 [parts] that sum to ``total`` and differ by at most one.

    >>> even_sizes(7, 3).tolist()
    [3, 2, 2]
    """
    return total // parts + (np.arange(parts) < total % parts)


def round_shares(
    shares: np.ndarray, total: int, *, rng: np.random.Generator
) -> np.ndarray:
    """Round ``shares * total`` to whole numbers, each up or down, without bias.

    Systematic rounding with one random offset u in [0, 1):
    size_i = floor(S_i total + u) - floor(S_{i-1} total + u), S_i the sum of the shares
    up to i, so that E[size_i] = shares_i total. Cutting at the floor alone would give
    the same clients the same fractions of every class.

    Args:
      shares: float [C], >= 0, with a positive sum; scaled to sum to 1.
      total: the sum of the result.
      rng: source of the offset.

    Returns:
      int64 [C], >= 0.
    """
    cumulative = np.cumsum(shares)
    cuts = np.floor(cumulative / cumulative[-1] * total + rng.random())
    return np.diff(np.minimum(cuts, total).astype(np.int64), prepend=0)


def raise_to_minimum(sizes: np.ndarray, minimum: int) -> np.ndarray:
    """Raise every size to ``minimum``, one sample at a time from the then largest.

    >>> raise_to_minimum(np.array([0, 5, 9]), 2).tolist()
    [2, 5, 7]

    Args:
      sizes: int [C], >= 0.
      minimum: in 0..sum(sizes) // C.

    Returns:
      int64 [C] with the sum of ``sizes``; no size that was large enough ends below
      ``minimum``.
    """

    def surplus(level: int) -> int:
        return int(np.maximum(sizes - level, 0).sum())

    missing = int(np.maximum(minimum - sizes, 0).sum())
    # The lowest level that the largest need to sink to; whole steps may take a few
    # samples too many, which the first of them get back.
    levels = range(int(sizes.max()) + 1)
    level = bisect_right(levels, -missing, key=lambda level: -surplus(level)) - 1
    raised = np.clip(sizes, minimum, level)
    cut_too_deep = np.flatnonzero(sizes > level)[: surplus(level) - missing]
    raised[cut_too_deep] += 1
    return raised
