"""The six findings: what curves decide, and what is told."""

import numpy as np
import pytest

from reproduction.claims import (
    AGREES,
    DISAGREES,
    IN_PART,
    NOT_RUN,
    UNDECIDED,
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


def test_sgd_is_compared_with_the_runs_of_its_seed():
    curves = _curves(_like_the_paper)
    up = np.linspace(-0.3, 0.3, 10)[:, None]
    curves = {c: v + up * (c.method != "fedavg") for c, v in curves.items()}
    first = _decide(curves)[0].primary
    assert first is not None and first.below is not None
    assert first.estimate.high > 1 > first.below.mean + 0.5
    assert first.below.mean == pytest.approx(1 - first.estimate.mean)
    assert 0 < first.below.low and first.below.high < 0.3
    assert first.below.sd < 0.05 < first.estimate.sd
    for claim, _ in _decide(curves)[0].secondary:
        if "max staleness 16" in claim.text:
            assert claim.text.endswith("below SGD") and claim.estimate.sd < 0.05
        else:
            assert claim.below is not None and claim.below.sd < 0.05


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
    assert lines[2].count(" below SGD") == 2 and "below SGD" not in "".join(lines[3:])


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
