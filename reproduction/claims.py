"""Claims: differences over seeds, and what their intervals decide."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedasync_jax.jobs.estimates import Estimate, estimate

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"


class Claim(NamedTuple):
    """One comparison.

    Attributes:
      text: what is said, in words.
      estimate: of the difference, over seeds.
      verdict: holds, does not hold or undecided.
      is_log2: whether the numbers are log2 of a factor, not of the evidence's unit.
    """

    text: str
    estimate: Estimate
    verdict: str
    is_log2: bool = False


def is_above(text: str, values: np.ndarray, bound: float = 0.0) -> Claim:
    """Return the claim that the mean is above a bound.

    Args:
      text: see ``Claim``.
      values: [S]; NaN of seeds that were not run.
      bound: the interval is compared with.
    """
    made = _estimate(values)
    verdict = UNDECIDED
    if made.low > bound:
        verdict = HOLDS
    elif made.high < bound:
        verdict = FAILS
    return Claim(text, made, verdict)


def is_within(text: str, values: np.ndarray, margin: float) -> Claim:
    """Return the claim that the mean is nearer to zero than a margin.

    Args:
      text: see ``Claim``.
      values: see ``is_above``.
      margin: > 0.
    """
    made = _estimate(values)
    verdict = UNDECIDED
    if -margin < made.low and made.high < margin:
        verdict = HOLDS
    elif made.low > margin or made.high < -margin:
        verdict = FAILS
    return Claim(text, made, verdict)


def sum_up(claims: Sequence[Claim]) -> str:
    """Return the verdict on all: they hold together, and one that fails fails all."""
    verdicts = [claim.verdict for claim in claims]
    if not verdicts:
        return "not run"
    if FAILS in verdicts:
        return FAILS
    return UNDECIDED if UNDECIDED in verdicts else HOLDS


def _estimate(values: np.ndarray) -> Estimate:
    finite = values[np.isfinite(values)]
    return estimate(finite) if finite.size else Estimate(0, *[float("nan")] * 4)
