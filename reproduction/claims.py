"""Claims: where the paper puts a number, and what an interval over seeds says of it.

A claim is a region of numbers. Its test is the intersection-union test: a mean inside
the region *agrees* if a one-sided test rejects every finite end of the region, which
for a region with two ends is the two one-sided tests of equivalence; a mean outside
*disagrees* if a one-sided test rejects the end that it is beyond. P values are doubled,
so that at level 0.05 a claim alone is decided exactly if its 95% interval (Student's)
holds no end of the region.

An upper end may itself be measured, as SGD is. Then the test is that of the distance
below it, seed by seed, with the distance's own interval, which is to hold no zero.

Reference: Schuirmann, "A comparison of the two one-sided tests procedure and the power
approach", 1987; Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedasync_jax.jobs.estimates import Estimate, estimate

AGREES, IN_PART, DISAGREES = "agrees", "in part", "disagrees"
UNDECIDED, NOT_RUN = "undecided", "not run"
LEVEL = 0.05
_MOST_SEEDS = 1000


class Claim(NamedTuple):
    """One number and the region that the paper puts it in.

    Attributes:
      text: what is said, in words.
      estimate: of the number, over seeds.
      low: lower end of the region; minus infinity if it has none.
      high: upper end.
      is_log2: whether the number is log2 of a factor, not one of the common unit.
      below: of the distance below the upper end, over seeds, if that end is measured,
        too; else None.
    """

    text: str
    estimate: Estimate
    low: float = -math.inf
    high: float = math.inf
    is_log2: bool = False
    below: Estimate | None = None

    @property
    def agrees(self) -> bool:
        """Whether the mean lies inside of the region."""
        return all(inside.mean > 0 for inside in self._list_inside())

    @property
    def p(self) -> float:
        """The doubled p value of the module's test, at most 1; 1 of a single seed."""
        return min(1.0, 2 * max(_reject(inside) for inside in self._list_tested()))

    def verdict(self, p: float | None = None) -> str:
        """Return agrees, disagrees or undecided.

        Args:
          p: adjusted for other claims; None: of this claim alone.
        """
        if not (self.p if p is None else p) <= LEVEL:
            return UNDECIDED
        return AGREES if self.agrees else DISAGREES

    def count_seeds(self, level: float = LEVEL) -> int | None:
        """Return how many seeds would decide it if mean and deviation stayed.

        Args:
          level: of its p value.

        Returns:
          The least number; None of fewer than two seeds, or if 1000 are too few.
        """
        counts = [_count_seeds(inside, level) for inside in self._list_tested()]
        known = [count for count in counts if count is not None]
        return max(known) if len(known) == len(counts) else None

    def _list_tested(self) -> list[Estimate]:
        """Return the distances that are tested: all, or the one that is beyond."""
        inside = self._list_inside()
        return inside if self.agrees else [min(inside, key=lambda one: one.mean)]

    def _list_inside(self) -> list[Estimate]:
        """Return how far inside of every finite end the number is, over seeds."""
        inside = []
        n, mean, sd, low, high = self.estimate
        if math.isfinite(self.low):
            ends = low - self.low, high - self.low
            inside.append(Estimate(n, mean - self.low, sd, *ends))
        if self.below is not None:
            inside.append(self.below)
        elif math.isfinite(self.high):
            ends = self.high - high, self.high - low
            inside.append(Estimate(n, self.high - mean, sd, *ends))
        return inside


def _reject(gap: Estimate) -> float:
    """Return the one-sided p value of a distance and zero; 1 of a single seed."""
    from scipy.stats import t

    if gap.n < 2:
        return 1.0
    if gap.sd == 0:
        return 0.0 if gap.mean != 0 else 1.0
    error = gap.sd / math.sqrt(gap.n)
    return float(t.sf(abs(gap.mean) / error, gap.n - 1))


def _count_seeds(gap: Estimate, level: float) -> int | None:
    """Return how many seeds would tell a distance from zero, see ``count_seeds``."""
    from scipy.stats import t

    if not math.isfinite(gap.sd):
        return None
    counts = np.arange(2, _MOST_SEEDS + 1)
    errors = t.ppf(1 - level / 2, counts - 1) * gap.sd / np.sqrt(counts)
    enough = errors <= abs(gap.mean)
    return int(counts[enough.argmax()]) if enough.any() else None


def make_claim(
    text: str,
    values: np.ndarray,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    is_log2: bool = False,
    below: np.ndarray | None = None,
) -> Claim:
    """Return the claim that the mean of values lies in a region.

    Args:
      text: see ``Claim``.
      values: [S]; NaN of seeds that were not run.
      low: see ``Claim``, as all that follow.
      high: at least one of the ends is finite.
      is_log2: see ``Claim``.
      below: see ``Claim``, [S].
    """
    distance = None if below is None else _estimate(below)
    return Claim(text, _estimate(values), low, high, is_log2, distance)


def _estimate(values: np.ndarray) -> Estimate:
    finite = values[np.isfinite(values)]
    nothing = Estimate(0, *[float("nan")] * 4)
    return estimate(finite) if finite.size else nothing


def adjust(claims: Sequence[Claim]) -> list[float]:
    """Return the p values of claims that are decided together, after Holm.

    >>> three = [Claim("", Estimate(9, mean, 1.0, 0, 0), 0.0) for mean in (3, 2, 0.1)]
    >>> [round(p, 3) for p in adjust(three)]
    [0.0, 0.001, 0.772]
    """
    ps = np.array([claim.p for claim in claims])
    order = np.argsort(ps, kind="stable")
    factors = len(ps) - np.arange(len(ps))
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(np.maximum.accumulate(ps[order] * factors), 1.0)
    return adjusted.tolist()
