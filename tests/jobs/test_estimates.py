"""Student's interval, against numbers of a table."""

import math

import numpy as np
import pytest

from fedasync_jax.jobs.estimates import estimate


def test_three_values():
    made = estimate([1.0, 2.0, 6.0])
    assert made.n == 3 and made.mean == 3.0
    assert made.sd == pytest.approx(math.sqrt(7))
    half = 4.302653 * math.sqrt(7) / math.sqrt(3)  # t of 2 degrees of freedom, 97.5%
    assert (made.low, made.high) == pytest.approx((3 - half, 3 + half), rel=1e-6)


def test_another_confidence():
    made = estimate([0.0, 2.0], confidence=0.5)  # t of 1 degree of freedom, 75%: 1
    assert (made.low, made.high) == pytest.approx((0.0, 2.0))


def test_one_value_has_no_interval():
    made = estimate([0.7])
    assert (made.n, made.mean) == (1, 0.7)
    assert all(math.isnan(number) for number in made[2:])


def test_the_interval_holds_the_mean_so_often():
    rng = np.random.default_rng(0)
    made = [estimate(rng.normal(5.0, 2.0, size=4)) for _ in range(2000)]
    share = np.mean([one.low < 5.0 < one.high for one in made])
    assert share == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]]])
def test_bad_values(values):
    with pytest.raises(ValueError, match=r"values must be \[n\]"):
        estimate(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0])
def test_bad_confidence(confidence):
    with pytest.raises(ValueError, match="confidence"):
        estimate([1.0, 2.0], confidence)
