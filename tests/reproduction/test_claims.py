"""Claims: verdicts and p values of one, of several, and the seeds that they need."""

import numpy as np
import pytest
from scipy import stats

from fedasync_jax.jobs.estimates import Estimate
from reproduction.claims import (
    AGREES,
    DISAGREES,
    UNDECIDED,
    Claim,
    adjust,
    make_claim,
)

CASES = [
    ([0.1, 0.11, 0.12], AGREES, DISAGREES),
    ([-0.1, -0.11, -0.12], DISAGREES, DISAGREES),
    ([-0.1, 0.1, 0.0], UNDECIDED, UNDECIDED),
    ([-0.001, 0.001, 0.0], UNDECIDED, AGREES),
    ([0.1], UNDECIDED, UNDECIDED),
    ([0.1, np.nan, 0.11], AGREES, DISAGREES),
    ([], UNDECIDED, UNDECIDED),
]


@pytest.mark.parametrize(("values", "above", "alike"), CASES)
def test_verdicts_of_a_claim(values, above, alike):
    values = np.array(values)
    assert make_claim("", values, 0.0).verdict() == above
    assert make_claim("", values, -0.02, 0.02).verdict() == alike


def test_a_claim_alone_is_decided_by_its_interval():
    rng = np.random.default_rng(0)
    decided = 0
    for _ in range(300):
        values = rng.normal(rng.normal(0, 0.5), 0.5, 5)
        for low, high in ((0.0, np.inf), (-np.inf, 0.1), (-0.4, 0.4)):
            claim = make_claim("", values, low, high)
            ends = [end for end in (low, high) if np.isfinite(end)]
            _, mean, _, left, right = claim.estimate
            verdict = UNDECIDED
            if low < left and right < high:
                verdict = AGREES
            elif any(
                (left - e) * (right - e) > 0 > (mean - e) * s
                for e, s in ((low, 1), (high, -1))
                if e in ends
            ):
                verdict = DISAGREES
            assert claim.verdict() == verdict
            decided += verdict != UNDECIDED
    assert 100 < decided < 800


def test_p_values_are_those_of_scipy():
    values = np.array([0.3, 0.1, 0.25, 0.2])
    (_, one) = stats.ttest_1samp(values, 0.0)
    assert make_claim("", values, 0.0).p == pytest.approx(one)
    ends = [
        tuple(stats.ttest_1samp(values, end, alternative=side))[1]
        for end, side in ((0.0, "greater"), (0.5, "less"))
    ]
    assert make_claim("", values, 0.0, 0.5).p == pytest.approx(2 * max(ends))


def test_an_end_that_is_measured_is_compared_seed_by_seed():
    values, end = np.array([0.3, 0.9, 0.6, 0.2]), np.array([0.5, 1.15, 0.8, 0.45])
    claim = make_claim("", values, 0.0, 0.75, below=end - values)
    sides = [
        tuple(stats.ttest_1samp(values, 0.0, alternative="greater"))[1],
        tuple(stats.ttest_rel(end, values, alternative="greater"))[1],
    ]
    assert claim.p == pytest.approx(2 * max(sides))
    # The lower end is what more seeds are needed for.
    assert claim.count_seeds() == make_claim("", values, 0.0).count_seeds()
    far = make_claim("", values + 9, 0.0, 9.75, below=end - values)
    assert far.p == pytest.approx(2 * sides[1])
    assert far.count_seeds() == make_claim("", end - values, 0.0).count_seeds()
    above = make_claim("", values + 0.3, 0.0, 0.75, below=end - values - 0.3)
    assert not above.agrees and above.verdict() == DISAGREES
    p = tuple(stats.ttest_rel(end, values + 0.3))[1]
    assert above.p == pytest.approx(p)
    one = make_claim("", values, 0.0, 0.75, below=np.array([0.2, np.nan]))
    assert one.p == 1.0 and one.count_seeds() is None


def test_seeds_that_would_decide():
    claim = Claim("", Estimate(3, 1.0, 2.0, -4.0, 6.0), 0.0)
    count = claim.count_seeds()
    assert count is not None
    halves = [stats.t.ppf(0.975, n - 1) * 2.0 / n**0.5 for n in (count - 1, count)]
    assert halves[0] > 1.0 >= halves[1]
    strict = claim.count_seeds(0.05 / 6)
    assert strict is not None and strict > count
    assert Claim("", Estimate(3, 1e-6, 2.0, -4, 4), 0.0).count_seeds() is None
    assert (
        Claim("", Estimate(1, 1.0, np.nan, np.nan, np.nan), 0.0).count_seeds() is None
    )


def test_holm_by_hand():
    claims = [make_claim("", np.array([x - 0.1, x, x + 0.1]), 0.0) for x in (2, 0.3, 1)]
    ps = [claim.p for claim in claims]
    assert ps[0] < ps[2] < ps[1]
    expected = [3 * ps[0], max(ps[1], 2 * ps[2]), 2 * ps[2]]
    assert adjust(claims) == pytest.approx(expected)
    assert adjust([]) == []
