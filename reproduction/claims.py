"""Claims: where the paper puts a number, and what an interval over seeds says of it.

A claim is a region of numbers. Its test is the intersection-union test: a mean inside
the region *agrees* if a one-sided test rejects every finite end of the region, which
for a region with two ends is the two one-sided tests of equivalence; a mean outside
*disagrees* if a one-sided test rejects the end that it is beyond. P values are doubled,
so that at level 0.05 a claim alone is decided exactly if its 95% interval (Student's)
holds no end of the region.

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
    """

    text: str
    estimate: Estimate
    low: float = -math.inf
    high: float = math.inf
    is_log2: bool = False

    @property
    def agrees(self) -> bool:
        """Whether the mean lies inside of the region."""
        return self.low < self.estimate.mean < self.high

    @property
    def p(self) -> float:
        """The doubled p value of the module's test, at most 1; 1 of a single seed."""
        if self.estimate.n < 2:
            return 1.0
        gaps = [abs(self.estimate.mean - end) for end in self._list_ends()]
        return min(1.0, 2 * max(self._reject(gap) for gap in gaps))

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
        from scipy.stats import t

        mean, sd = self.estimate.mean, self.estimate.sd
        if not math.isfinite(sd):
            return None
        gap = min(abs(mean - end) for end in self._list_ends())
        counts = np.arange(2, _MOST_SEEDS + 1)
        enough = t.ppf(1 - level / 2, counts - 1) * sd / np.sqrt(counts) <= gap
        return int(counts[enough.argmax()]) if enough.any() else None

    def _list_ends(self) -> list[float]:
        """Return the ends that the mean is compared with: all, or the nearest."""
        ends = [end for end in (self.low, self.high) if math.isfinite(end)]
        if self.agrees:
            return ends
        return [min(ends, key=lambda end: abs(end - self.estimate.mean))]

    def _reject(self, gap: float) -> float:
        """Return the one-sided p value of a distance between mean and an end."""
        from scipy.stats import t

        if self.estimate.sd == 0:
            return 0.0 if gap > 0 else 1.0
        error = self.estimate.sd / math.sqrt(self.estimate.n)
        return float(t.sf(gap / error, self.estimate.n - 1))


def make_claim(
    text: str,
    values: np.ndarray,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    is_log2: bool = False,
) -> Claim:
    """Return the claim that the mean of values lies in a region.

    Args:
      text: see ``Claim``.
      values: [S]; NaN of seeds that were not run.
      low: see ``Claim``, as all that follow.
      high: at least one of the ends is finite.
      is_log2: see ``Claim``.
    """
    finite = values[np.isfinite(values)]
    nothing = Estimate(0, *[float("nan")] * 4)
    made = estimate(finite) if finite.size else nothing
    return Claim(text, made, low, high, is_log2)


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
