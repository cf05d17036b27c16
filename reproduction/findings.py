"""The six findings of the paper, each in a form that runs can decide.

Values are test accuracy, or minus the test loss of language models: more is better.
What is compared is compared seed by seed; the interval is that of the mean difference
over seeds, with 95% confidence (Student's). A claim *holds* if the whole interval is
beyond its bound, *does not hold* if the whole interval is on the other side, and is
*undecided* in between, as it always is with one seed.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
section 5.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedasync_jax.experiment.method_names import list_fedasync
from reproduction.claims import (
    HOLDS,
    UNDECIDED,
    Claim,
    is_above,
    is_within,
    sum_up,
)
from reproduction.evidence import make_evidence
from reproduction.figures import FEDASYNC, Cell, Figure, list_cells
from reproduction.measures import Measures

_MARGIN = 0.02  # accuracy or nats that a hyperparameter may matter
_NO_WORSE = 0.01  # accuracy or nats that is no worse
_MUCH_FASTER = 2.0  # times fewer gradients


class Finding(NamedTuple):
    """One of the findings, on one data set.

    Attributes:
      number: 1 to 6.
      title: what the paper says.
      rule: how it is decided.
      claims: what it consists of; none if there are no runs for it.
      is_whole: whether all curves have been run that it speaks of.
    """

    number: int
    title: str
    rule: str
    claims: list[Claim]
    is_whole: bool = True

    @property
    def verdict(self) -> str:
        """See ``claims.sum_up``; nothing holds as long as curves are missing."""
        verdict = sum_up(self.claims)
        return UNDECIDED if verdict == HOLDS and not self.is_whole else verdict

    @property
    def counts(self) -> str:
        """How many claims have which verdict, in parentheses; empty if there is none.

        >>> Finding(1, "", "", []).counts
        ''
        """
        verdicts = [claim.verdict for claim in self.claims]
        kinds = dict.fromkeys(verdicts)
        counts = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds)
        return f" ({counts})" if counts else ""


def decide(
    records: Sequence[Mapping[str, Any]], figures: Sequence[Figure]
) -> list[Finding]:
    """Return the findings on a data set; none if no run has come to its end.

    Args:
      records: of a results file.
      figures: of this data set, see ``make_figures``.
    """
    # The runs at two largest stalenesses are the evidence of all findings.
    plain = [figure for figure in figures if not figure.is_sweep]
    small, large = sorted(plain, key=lambda figure: figure.max_staleness)
    evidence = make_evidence(records, list_cells(plain))
    if evidence is None:
        return []
    measures, unit = Measures(evidence), evidence.unit
    have_all = measures.have(*list_cells(plain))

    # The sweep over stalenesses, where it was run, speaks on "no worse" as well.
    no_worse, have_swept = list(_is_no_worse(measures, large)), True
    for figure in figures:
        swept = make_evidence(records, figure.cells()) if figure.is_sweep else None
        if swept is not None:
            of_swept = Measures(swept)
            no_worse += _is_no_worse(of_swept, figure)
            have_swept = of_swept.have(*figure.cells())

    # The paper's six findings, each with its rule in words and its claims.
    return [
        Finding(
            1,
            "FedAsync converges at a speed between single-thread SGD and FedAvg",
            "mean over the second half of the evaluations: FedAsync above FedAvg and "
            "below SGD; to hold, also the means over seeds at each of them",
            list(_is_between(measures, [small, large])),
            have_all,
        ),
        Finding(
            2,
            "larger alpha and smaller staleness: closer to SGD",
            "mean absolute distance from SGD's curve over all evaluations",
            list(_is_closer(measures, "sgd", small, large)),
            have_all,
        ),
        Finding(
            3,
            "smaller alpha and larger staleness: closer to FedAvg",
            "mean absolute distance from FedAvg's curve over all evaluations",
            list(_is_closer(measures, "fedavg", small, large)),
            have_all,
        ),
        Finding(
            4,
            "not sensitive to its hyperparameters; with large staleness a larger "
            "alpha speeds it up",
            "small staleness: the last quarter of the evaluations differs by less than "
            f"{unit.show(_MARGIN)} between the alphas; large: the mean of all "
            "evaluations is higher with the larger alpha",
            list(_is_robust(measures, small, large)),
            have_all,
        ),
        Finding(
            5,
            "hinge is the best staleness function; constant is unstable with large "
            "staleness and alpha",
            "mean of the last quarter of the evaluations; roughness: mean absolute "
            "second difference of the evaluations in the second half, which is 0 of "
            "a curve that rises evenly",
            list(_is_best(measures, large)),
            have_all,
        ),
        Finding(
            6,
            "small staleness: much faster than FedAvg; large staleness: no worse",
            f"small: {_MUCH_FASTER:g} times fewer gradients, or better, to the mean of "
            "FedAvg's last quarter; large: the last quarter at most "
            f"{unit.show(_NO_WORSE)} below FedAvg's",
            [*_is_faster(measures, small), *no_worse],
            have_all and have_swept,
        ),
    ]


def _is_between(measures: Measures, figures: Sequence[Figure]) -> Iterator[Claim]:
    for name, cell in _list_cells(measures, figures):
        fedavg, sgd = (Cell(cell.data, method) for method in ("fedavg", "sgd"))
        for text, low, high in (
            (f"{name}: above FedAvg", fedavg, cell),
            (f"{name}: below SGD", cell, sgd),
        ):
            if not measures.have(low, high):
                continue
            gaps = measures.gaps(high, low)
            right = int((np.nanmean(gaps, 0) > 0).sum())
            count = f" ({right} of {gaps.shape[1]} evaluations)"
            claim = is_above(text + count, gaps.mean(1))
            if claim.verdict == HOLDS and right < gaps.shape[1]:
                claim = claim._replace(verdict=UNDECIDED)
            yield claim


def _is_closer(
    measures: Measures, baseline: str, small: Figure, large: Figure
) -> Iterator[Claim]:
    """Yield which of two is nearer to a baseline: SGD to the one, FedAvg to the other.

    Of SGD that is the one with the larger alpha or the smaller staleness.
    """
    low, high = small.alphas[0], small.alphas[-1]
    few, many = small.max_staleness[0], large.max_staleness[0]
    pairs: list[tuple[str, Mapping[Any, Cell]]] = [
        (
            f"{_shorten(method)}, max staleness {few}: alpha",
            {alpha: small.cell(method, few, alpha) for alpha in (low, high)},
        )
        for method in small.methods(few)
    ]
    pairs += [
        (
            f"{_shorten(method)}, alpha {alpha:g}: max staleness",
            {
                many: large.cell(method, many, alpha),
                few: small.cell(method, few, alpha),
            },
        )
        for alpha in small.alphas
        for method in FEDASYNC
    ]
    center = Cell(small.data, baseline)
    for text, cells in pairs:
        (far, far_cell), (near, near_cell) = list(cells.items())[
            :: 1 if baseline == "sgd" else -1
        ]
        if measures.have(center, far_cell, near_cell):
            far_away = measures.distance(far_cell, center)
            gaps = far_away - measures.distance(near_cell, center)
            yield is_above(f"{text} {near:g} is closer than {far:g}", gaps)


def _is_robust(measures: Measures, small: Figure, large: Figure) -> Iterator[Claim]:
    for figure in (small, large):
        staleness = figure.max_staleness[0]
        low, high = figure.alphas[0], figure.alphas[-1]
        for method in figure.methods(staleness):
            slow, fast = (figure.cell(method, staleness, a) for a in (low, high))
            if not measures.have(slow, fast):
                continue
            where = f"{_shorten(method)}, max staleness {staleness}"
            if figure is small:
                gaps = measures.final(fast) - measures.final(slow)
                text = f"{where}: alpha {high:g} and {low:g} end alike"
                yield is_within(text, gaps, _MARGIN)
            else:
                gaps = measures.mean(fast) - measures.mean(slow)
                yield is_above(f"{where}: alpha {high:g} above {low:g}", gaps)


def _is_best(measures: Measures, large: Figure) -> Iterator[Claim]:
    def make_cells(alpha: float) -> list[Cell]:
        return [large.cell(m, large.max_staleness[0], alpha) for m in FEDASYNC]

    for alpha in large.alphas:
        *others, hinge = make_cells(alpha)
        for other in others:
            if measures.have(hinge, other):
                text = f"alpha {alpha:g}: hinge above {_shorten(other.method)}"
                gaps = measures.final(hinge) - measures.final(other)
                yield is_above(text, gaps)
    alpha = large.alphas[-1]
    constant, *others = make_cells(alpha)
    for other in others:
        if measures.have(constant, other):
            text = f"alpha {alpha:g}: constant rougher than {_shorten(other.method)}"
            gaps = measures.roughness(constant) - measures.roughness(other)
            yield is_above(text, gaps)


def _is_faster(measures: Measures, small: Figure) -> Iterator[Claim]:
    fedavg = Cell(small.data, "fedavg")
    for name, cell in _list_cells(measures, [small]):
        if not measures.have(fedavg, cell):
            continue
        targets = measures.final(fedavg)
        slow = measures.gradients_to(fedavg, targets)
        factors = np.log2(slow / measures.gradients_to(cell, targets))
        text = f"{name}: {_MUCH_FASTER:g} times faster"
        claim = is_above(text, factors, np.log2(_MUCH_FASTER))
        yield claim._replace(is_log2=True)


def _is_no_worse(measures: Measures, figure: Figure) -> Iterator[Claim]:
    fedavg = Cell(figure.data, "fedavg")
    for alpha in figure.alphas:
        for method in FEDASYNC:
            cell = figure.cell(method, figure.max_staleness[-1], alpha)
            if measures.have(cell, fedavg):
                gaps = measures.final(cell) - measures.final(fedavg)
                yield is_above(f"{_describe(cell)}: no worse", gaps, -_NO_WORSE)


def _list_cells(
    measures: Measures, figures: Sequence[Figure]
) -> Iterator[tuple[str, Cell]]:
    """Yield the asynchronous curves that there are, with their names."""
    for figure in figures:
        for cell in figure.cells():
            staleness = cell.max_staleness
            if staleness is None or cell.method not in figure.methods(staleness):
                continue
            if measures.have(cell):
                yield _describe(cell), cell


def _shorten(method: str) -> str:
    return list_fedasync().get(method, method)


def _describe(cell: Cell) -> str:
    where = f"alpha {cell.alpha:g}, max staleness {cell.max_staleness}"
    return f"{_shorten(cell.method)}, {where}"
