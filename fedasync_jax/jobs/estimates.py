"""What repeated runs say of a mean: its interval over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean over seeds.

    Attributes:
      n: number of values.
      mean: their mean.
      sd: standard deviation of one value, with n - 1; NaN of fewer than two values.
      low: lower end of the interval that holds the true mean with 95% confidence; NaN
        of fewer than two values.
      high: upper end.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


def estimate(
    values: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> Estimate:
    """Return mean, standard deviation and Student's interval, mean ± t sd / sqrt(n).

    >>> tuple(round(x, 3) for x in estimate([0.70, 0.72, 0.74]))
    (3, 0.72, 0.02, 0.67, 0.77)

    Args:
      values: [n], n >= 1, one per seed, as if drawn from a normal distribution.
      confidence: probability that the interval holds the true mean, in (0, 1).

    Raises:
      ValueError: if there is no value or ``confidence`` is out of range.
    """
    from scipy.stats import t

    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"values must be [n] with n >= 1, got shape {array.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    n, mean = array.size, float(array.mean())
    if n == 1:
        return Estimate(1, mean, float("nan"), float("nan"), float("nan"))
    sd = float(array.std(ddof=1))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * sd / n**0.5
    return Estimate(n, mean, sd, mean - half, mean + half)
