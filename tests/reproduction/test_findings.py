"""The six findings: what curves decide, how many seeds they need, what is told."""

import numpy as np
import pytest
from scipy import stats

from fedasync_jax.jobs.estimates import Estimate
from reproduction.claims import (
    AGREES,
    DISAGREES,
    IN_PART,
    NOT_RUN,
    UNDECIDED,
    Claim,
    adjust,
    make_claim,
)
from reproduction.figures import (
    list_cells,
    make_figures,
)
from reproduction.findings import decide
from reproduction.forest import draw_findings
from reproduction.order import compare_orders
from reproduction.scales import SCALES
from reproduction.summary import summarize, tell

FIGURES = [f for f in make_figures(SCALES["micro"]).values() if f.data == "cifar"]
SMALL, LARGE, SWEEP = FIGURES
P = 21

# One claim

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


# The findings


def _curves(height, seeds=10, noise=0.002):
    """Return curves that rise to ``height`` of their cell, nearly the same by seed."""
    rng = np.random.default_rng(0)
    rise = 1 - np.exp(-np.arange(P) / 5)
    cells = list_cells(FIGURES)
    return {c: height(c) * rise + rng.normal(0, noise, (seeds, 1)) for c in cells}


def _make_records(curves):
    return [
        {
            "cell": cell._asdict(),
            "seed": seed,
            "finished": True,
            "is_text": False,
            "gradients": (np.arange(P) * 1000).tolist(),
            "value": curve.tolist(),
        }
        for cell, mine in curves.items()
        for seed, curve in enumerate(mine)
        if np.isfinite(curve).all()
    ]


def _decide(curves):
    """Return the findings; seeds whose curve has a NaN were not run."""
    return decide(_make_records(curves), FIGURES)


def _like_the_paper(cell):
    """As the paper says it is: at max staleness 50 it is below FedAvg."""
    if cell.method in ("sgd", "fedavg"):
        return {"sgd": 0.9, "fedavg": 0.5}[cell.method]
    height = {2: 0.82, 4: 0.8, 16: 0.55, 50: 0.3}[cell.max_staleness]
    if cell.max_staleness > 4:
        height += {"fedasync-hinge": 0.06, "fedasync-polynomial": 0.03}.get(
            cell.method, 0.0
        )
        return height + 0.02 * (cell.alpha == 0.9) * (
            -1 if cell.method == "fedasync-constant" else 1
        )
    height -= 0.005 * (cell.method == "fedasync-polynomial")
    return height + 0.012 * (cell.alpha == 0.9)


def _verdicts(curves):
    return [finding.verdict for finding in _decide(curves)]


def test_curves_like_the_papers_agree():
    curves = _curves(_like_the_paper)
    rough = LARGE.cell("fedasync-constant", 16, 0.9)
    curves[rough][:, ::2] -= 0.05
    findings = _decide(curves)
    assert [finding.number for finding in findings] == [1, 2, 3, 4, 5, 6]
    assert [finding.verdict for finding in findings] == [AGREES] * 6
    for finding in findings:
        assert {claim.verdict(p) for claim, p in finding.secondary} == {AGREES}


def test_positions_are_in_units_of_the_baselines():
    first = _decide(_curves(_like_the_paper, noise=1e-6))[0].primary
    assert first is not None
    # The second half of the rise is the same for all: (0.8035 - 0.5) / (0.9 - 0.5).
    assert first.estimate.mean == pytest.approx(0.3035 / 0.4, abs=1e-3)


def test_the_opposite_disagrees():
    def opposite(cell):
        if cell.max_staleness is None:
            return _like_the_paper(cell)
        return 1.3 - _like_the_paper(cell)

    verdicts = _verdicts(_curves(opposite))
    assert [verdicts[i] for i in (1, 2, 4)] == [DISAGREES] * 3
    below = _verdicts(_curves(lambda c: 0.4 if c.max_staleness else _like_the_paper(c)))
    assert below[0] == below[5] == DISAGREES


def test_a_part_that_disagrees_is_named():
    def fails_at_16(cell):
        return 0.3 if cell.max_staleness == 16 else _like_the_paper(cell)

    finding = _decide(_curves(fails_at_16))[5]
    assert finding.verdict == IN_PART
    against = [claim.text for claim in finding.list_against()]
    # The constant with the larger alpha is not asked.
    assert len(against) == 5 and all("max staleness 16" in text for text in against)
    assert against[0] in tell(finding) and "and 4 more" in tell(finding)


def test_one_seed_decides_nothing():
    assert set(_verdicts(_curves(_like_the_paper, seeds=1))) == {UNDECIDED}


def test_noise_leaves_it_undecided_and_tells_how_many_seeds_would_do():
    findings = _decide(_curves(_like_the_paper, noise=0.06, seeds=4))
    fifth = findings[4]
    count = fifth.count_seeds()
    assert fifth.verdict == UNDECIDED and count is not None and count > 10
    assert f"{count} seeds would decide it" in tell(fifth)


def test_an_alpha_that_matters_is_found():
    def sensitive(cell):
        return _like_the_paper(cell) + 0.15 * (cell.alpha == 0.9)

    assert _verdicts(_curves(sensitive))[3] == DISAGREES


def test_baselines_that_are_the_wrong_way_round_decide_nothing():
    def swapped(cell):
        if cell.max_staleness is None:
            return 1.4 - _like_the_paper(cell)
        return _like_the_paper(cell)

    assert set(_verdicts(_curves(swapped))[:5]) == {UNDECIDED}


def test_seeds_that_are_missing_do_not_count():
    curves = _curves(_like_the_paper)
    cell = SMALL.cell("fedasync-polynomial", 4, 0.6)
    curves[cell][2:] = np.nan
    first = _decide(curves)[0]
    claims = {claim.text: claim for claim, _ in first.secondary}
    assert claims["polynomial, alpha 0.6, max staleness 4: between the two"][1].n == 2
    assert first.primary is not None and first.primary.estimate.n == 2


def test_nothing_agrees_as_long_as_curves_are_missing():
    curves = _curves(_like_the_paper)
    missing = SMALL.cell("fedasync-polynomial", 4, 0.6)
    some = {cell: curve for cell, curve in curves.items() if cell != missing}
    assert not {AGREES, IN_PART} & set(_verdicts(some))
    swept = [cell for cell in curves if cell.max_staleness == 50]
    some = {c: v for c, v in curves.items() if c not in swept[:1]}
    verdicts = _verdicts(some)
    assert verdicts[:4] == [AGREES] * 4 and verdicts[5] == UNDECIDED
    assert tell(_decide(some)[5]).endswith("; curves are missing")


def test_findings_without_runs_are_not_run():
    curves = _curves(_like_the_paper)
    some = {c: v for c, v in curves.items() if c.max_staleness != 16}
    findings = _decide(some)
    assert findings[4].verdict == NOT_RUN and tell(findings[4]) == "**not run**"
    assert _decide({}) == []


def test_a_hinge_that_is_the_constant_is_not_counted_twice():
    texts = [c.text for f in _decide(_curves(_like_the_paper)) for c, _ in f.secondary]
    assert not [t for t in texts if "hinge" in t and "max staleness 4: between" in t]
    assert sum("max staleness 4: between" in text for text in texts) == 4


# What is told


def test_the_summary_has_a_row_for_every_finding(tmp_path):
    found = {
        name: _decide(_curves(_like_the_paper, seeds=seeds))
        for name, seeds in (("ten", 10), ("one", 1))
    }
    pictures = draw_findings(found, tmp_path)
    assert sorted(pictures) == [1, 2, 3, 4, 5, 6]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in pictures.values())
    lines = list(summarize(found, {1: "one.png"}))
    assert lines[0] == "| | the paper says | ten | one | |"
    assert lines[2].startswith("| 1 | FedAsync converges at a speed between")
    assert (
        lines[2].endswith("| ![finding 1](one.png) |") and "**agrees** 0.7" in lines[2]
    )
    assert "times" in lines[7] and "nan" not in "".join(lines)


def test_orders_are_compared_where_two_scales_were_run():
    one, other = (
        {"scale": scale, "runs": _make_records(_curves(height, seeds, noise=1e-4))}
        for scale, height, seeds in (
            ("micro", _like_the_paper, 10),
            ("small", _like_the_paper, 3),
        )
    )
    assert list(compare_orders([one])) == []
    text = "\n".join(compare_orders([one, other]))
    pairs = 12 * 11 // 2
    assert f"Of {pairs} pairs of curves {pairs} are in the same order" in text
    assert f"without zero at the first, {pairs}." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows[0].startswith("| SGD | 1.00") and rows[0].endswith(" | 1 |")
    assert any(row.startswith("| FedAvg | 0.00 |") for row in rows)
    assert len(rows) == 12
