"""The six findings of the paper, each as one number with a region that it falls in.

All numbers but factors are in one unit: the distance between the curves of
single-thread SGD and FedAvg, over the second half of the evaluations, mean over the
seeds. A *position* is 0 at FedAvg and 1 at SGD. Values are test accuracy, or minus the
test loss of language models. What is compared is compared seed by seed: with FedAvg of
the same seed, and with SGD of the same seed. See ``claims`` for the tests; the six
primary claims of a data set are decided together (Holm), and so are the secondary
claims of a finding.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
section 5.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reproduction import secondary
from reproduction.claims import (
    AGREES,
    DISAGREES,
    IN_PART,
    LEVEL,
    NOT_RUN,
    UNDECIDED,
    Claim,
    adjust,
    make_claim,
)
from reproduction.evidence import make_evidence
from reproduction.figures import FEDASYNC, Cell, Figure, list_cells
from reproduction.measures import Measures
from reproduction.positions import MARGIN, Positions, average

SAYS = (
    "FedAsync converges at a speed between FedAvg and single-thread SGD",
    "the larger alpha and the smaller the staleness, the closer to SGD",
    "the smaller alpha and the larger the staleness, the closer to FedAvg",
    "not sensitive to its hyperparameters; with large staleness a larger alpha speeds "
    "up what weighs by staleness",
    "hinge is the best staleness function; the constant is unstable with large "
    "staleness and alpha",
    "small staleness: much faster than FedAvg; large staleness: no worse",
)
"""What the paper says, in our words."""

MEASURES = (
    "position of the second half of the evaluations, mean of the curves at the smaller "
    "staleness",
    "mean distance from SGD's curve of the larger staleness with the smaller alpha, "
    "less that of the smaller staleness with the larger alpha, mean of the functions",
    "mean distance from FedAvg's curve of the smaller staleness with the larger alpha, "
    "less that of the larger staleness with the smaller alpha, mean of the functions",
    "last quarter of the evaluations with the larger alpha less that with the smaller, "
    "at the smaller staleness, mean of the functions",
    "last quarter of hinge less that of the other two at the larger staleness, mean of "
    "the alphas",
    "how many times fewer gradients than FedAvg, to the mean of FedAvg's last quarter, "
    "at the smaller staleness, geometric mean of the curves",
)
"""The number that decides each of them."""


class Finding(NamedTuple):
    """One of the findings, on one data set.

    Attributes:
      number: 1 to 6.
      says: what the paper says, in our words.
      primary: the claim that it is decided by; None if there are no runs for it.
      p: its p value, adjusted for the six.
      secondary: what else it consists of, each with its adjusted p value.
      is_whole: whether all curves have been run that it speaks of.
    """

    number: int
    says: str
    primary: Claim | None
    p: float
    secondary: list[tuple[Claim, float]]
    is_whole: bool

    @property
    def verdict(self) -> str:
        """Agrees, in part, disagrees, undecided or not run.

        In part: the primary claim agrees, and a secondary one disagrees. Nothing agrees
        as long as curves are missing.
        """
        if self.primary is None:
            return NOT_RUN
        verdict = self.primary.verdict(self.p)
        if verdict == AGREES and not self.is_whole:
            return UNDECIDED
        return IN_PART if verdict == AGREES and self.list_against() else verdict

    def list_against(self) -> list[Claim]:
        """Return the secondary claims that disagree."""
        return [c for c, p in self.secondary if c.verdict(p) == DISAGREES]

    def count_seeds(self) -> int | None:
        """Return how many seeds would decide it, at the strictest level of the six."""
        return None if self.primary is None else self.primary.count_seeds(LEVEL / 6)


def decide(
    records: Sequence[Mapping[str, Any]], figures: Sequence[Figure]
) -> list[Finding]:
    """Return the findings on a data set; none if no run has come to its end.

    Args:
      records: of a results file.
      figures: of this data set, see ``make_figures``.
    """
    # The runs at two largest stalenesses are the evidence; the sweep adds to the last.
    plain = [figure for figure in figures if not figure.is_sweep]
    small, large = sorted(plain, key=lambda figure: figure.max_staleness)
    evidence = make_evidence(records, list_cells(plain))
    if evidence is None:
        return []
    positions = Positions(Measures(evidence), small.data)
    is_whole = positions.measures.have(*list_cells(plain))
    swept, have_swept = list(_sweep(records, figures)), True
    for figure, of_sweep in swept:
        have_swept = have_swept and of_sweep.measures.have(*figure.cells())

    # Each with its primary claim and its secondary ones.
    found = [
        (
            _is_between(positions, small),
            list(secondary.list_between(positions, small, large)),
        ),
        *(
            (
                _is_closer(positions, baseline, small, large),
                list(secondary.list_closer(positions, baseline, small, large)),
            )
            for baseline in ("sgd", "fedavg")
        ),
        (
            _is_insensitive(positions, small),
            list(secondary.list_insensitive(positions, small, large)),
        ),
        (_is_best(positions, large), list(secondary.list_best(positions, large))),
        (
            _is_faster(positions, small),
            [*secondary.list_no_worse(positions, large), *secondary.list_swept(swept)],
        ),
    ]
    primaries = [claim for claim, _ in found if claim is not None]
    ps = iter(adjust(primaries))
    return [
        Finding(
            number,
            SAYS[number - 1],
            primary,
            next(ps) if primary is not None else 1.0,
            list(zip(others, adjust(others), strict=True)),
            is_whole and (number < 6 or have_swept),
        )
        for number, (primary, others) in enumerate(found, 1)
    ]


def _sweep(
    records: Sequence[Mapping[str, Any]], figures: Sequence[Figure]
) -> Iterator[tuple[Figure, Positions]]:
    """Yield the sweep over stalenesses, where it was run."""
    for figure in figures:
        evidence = make_evidence(records, figure.cells()) if figure.is_sweep else None
        if evidence is not None:
            yield figure, Positions(Measures(evidence), figure.data)


def _is_between(positions: Positions, small: Figure) -> Claim | None:
    cells = positions.list_there(small)
    if not cells:
        return None
    values = average(positions.of_half(cell) for cell in cells)
    below = average(positions.below_sgd(cell) for cell in cells)
    return make_claim("position", values, 0.0, 1.0, below=below)


def _is_closer(
    positions: Positions, baseline: str, small: Figure, large: Figure
) -> Claim | None:
    """Return whether the ends of alpha and staleness lie as the paper says."""
    center = Cell(small.data, baseline)
    quick = [small.cell(m, small.largest, small.alphas[-1]) for m in FEDASYNC]
    slow = [large.cell(m, large.largest, large.alphas[0]) for m in FEDASYNC]
    if not positions.measures.have(center, *quick, *slow):
        return None
    away = [
        average(positions.distance(cell, center) for cell in cells)
        for cells in (quick, slow)
    ]
    gaps = away[1] - away[0] if baseline == "sgd" else away[0] - away[1]
    return make_claim("difference of distances", gaps, 0.0)


def _is_insensitive(positions: Positions, small: Figure) -> Claim | None:
    ends = [
        [
            small.cell(method, small.largest, alpha)
            for method in small.methods(small.largest)
        ]
        for alpha in (small.alphas[0], small.alphas[-1])
    ]
    if not positions.measures.have(*ends[0], *ends[1]):
        return None
    gaps = average(
        positions.end_gap(fast, slow) for slow, fast in zip(*ends, strict=True)
    )
    return make_claim("difference between the alphas", gaps, -MARGIN, MARGIN)


def _is_best(positions: Positions, large: Figure) -> Claim | None:
    rows = []
    for alpha in large.alphas:
        *others, hinge = (large.cell(m, large.largest, alpha) for m in FEDASYNC)
        if not positions.measures.have(hinge, *others):
            return None
        rows += [positions.end_gap(hinge, other) for other in others]
    return make_claim("hinge less the others", average(rows), 0.0)


def _is_faster(positions: Positions, small: Figure) -> Claim | None:
    cells = positions.list_there(small)
    if not cells:
        return None
    factors = average(positions.speed(cell) for cell in cells)
    return make_claim("factor", factors, 0.0, is_log2=True)
