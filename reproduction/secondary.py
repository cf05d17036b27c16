"""The secondary claims of the findings: every curve by itself, and what goes with it.

Each function yields claims about the curves that were run; see ``findings``.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from fedasync_jax.experiment.method_names import list_fedasync
from reproduction.claims import Claim, make_claim
from reproduction.figures import FEDASYNC, Cell, Figure
from reproduction.positions import MARGIN, Positions

CONSTANT = "fedasync-constant"


def list_between(positions: Positions, small: Figure, large: Figure) -> Iterator[Claim]:
    """Yield whether every curve lies between FedAvg and SGD, or at least below SGD."""
    for cell in positions.list_there(small):
        values = positions.of_half(cell)
        below = positions.below_sgd(cell)
        text = f"{describe(cell)}: between the two"
        yield make_claim(text, values, 0.0, 1.0, below=below)
    for cell in positions.list_there(large):
        text = f"{describe(cell)}: distance below SGD"
        yield make_claim(text, positions.below_sgd(cell), 0.0)


def list_closer(
    positions: Positions, baseline: str, small: Figure, large: Figure
) -> Iterator[Claim]:
    """Yield which of two is nearer to a baseline: SGD to the one, FedAvg to the other.

    Of SGD that is the one with the larger alpha or the smaller staleness.
    """
    low, high = small.alphas[0], small.alphas[-1]
    few, many = small.largest, large.largest
    pairs: list[tuple[str, dict[Any, Cell]]] = [
        (
            f"{shorten(method)}, max staleness {few}: alpha",
            {alpha: small.cell(method, few, alpha) for alpha in (low, high)},
        )
        for method in small.methods(few)
    ]
    pairs += [
        (
            f"{shorten(method)}, alpha {alpha:g}: max staleness",
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
        if positions.measures.have(center, far_cell, near_cell):
            far_away = positions.distance(far_cell, center)
            gaps = far_away - positions.distance(near_cell, center)
            yield make_claim(f"{text} {near:g} is closer than {far:g}", gaps, 0.0)


def list_insensitive(
    positions: Positions, small: Figure, large: Figure
) -> Iterator[Claim]:
    """Yield whether alpha does not matter, and where it helps at large staleness."""
    low, high = small.alphas[0], small.alphas[-1]
    for method in small.methods(small.largest):
        slow, fast = (small.cell(method, small.largest, a) for a in (low, high))
        if positions.measures.have(slow, fast):
            where = f"{shorten(method)}, max staleness {small.largest}"
            gaps = positions.end_gap(fast, slow)
            text = f"{where}: alpha {high:g} and {low:g} end alike"
            yield make_claim(text, gaps, -MARGIN, MARGIN)
    for method in large.methods(large.largest):
        slow, fast = (large.cell(method, large.largest, a) for a in (low, high))
        if method != CONSTANT and positions.measures.have(slow, fast):
            where = f"{shorten(method)}, max staleness {large.largest}"
            gaps = positions.mean_gap(fast, slow)
            yield make_claim(f"{where}: alpha {high:g} above {low:g}", gaps, 0.0)


def list_best(positions: Positions, large: Figure) -> Iterator[Claim]:
    """Yield whether hinge is above each of the others, and the constant rougher."""
    for alpha in large.alphas:
        *others, hinge = (large.cell(m, large.largest, alpha) for m in FEDASYNC)
        for other in others:
            if positions.measures.have(hinge, other):
                text = f"alpha {alpha:g}: hinge above {shorten(other.method)}"
                yield make_claim(text, positions.end_gap(hinge, other), 0.0)
    alpha = large.alphas[-1]
    constant, *others = (large.cell(m, large.largest, alpha) for m in FEDASYNC)
    for other in others:
        if positions.measures.have(constant, other):
            gaps = positions.roughness(constant) - positions.roughness(other)
            text = f"alpha {alpha:g}: constant rougher than {shorten(other.method)}"
            yield make_claim(text, gaps, 0.0)


def list_no_worse(positions: Positions, large: Figure) -> Iterator[Claim]:
    """Yield whether large staleness is no worse than FedAvg.

    The constant with the larger alpha, which the paper calls unstable there, is not
    asked.
    """
    for cell in positions.list_there(large):
        if (cell.method, cell.alpha) != (CONSTANT, large.alphas[-1]):
            text = f"{describe(cell)}: no worse than FedAvg, within {MARGIN:g}"
            yield make_claim(text, positions.of_end(cell), -MARGIN)


def list_swept(swept: Iterable[tuple[Figure, Positions]]) -> Iterator[Claim]:
    """Yield whether staleness costs accuracy, and less where it is weighed by."""
    for figure, positions in swept:
        first, last = figure.max_staleness[0], figure.largest
        alpha = figure.alphas[0]
        ends = {m: [figure.cell(m, k, alpha) for k in (first, last)] for m in FEDASYNC}
        for method, (fresh, stale) in ends.items():
            if positions.measures.have(fresh, stale):
                where = f"{shorten(method)}, alpha {alpha:g}"
                text = f"{where}: max staleness {first} above {last}"
                yield make_claim(text, positions.end_gap(fresh, stale), 0.0)
        constant = ends[CONSTANT][1]
        for method in FEDASYNC:
            stale = ends[method][1]
            if method != CONSTANT and positions.measures.have(stale, constant):
                where = f"alpha {alpha:g}, max staleness {last}"
                text = f"{where}: {shorten(method)} above the constant"
                yield make_claim(text, positions.end_gap(stale, constant), 0.0)


def shorten(method: str) -> str:
    """Return the name of the staleness function of a method."""
    return list_fedasync().get(method, method)


def describe(cell: Cell) -> str:
    """Return an asynchronous curve in words."""
    where = f"alpha {cell.alpha:g}, max staleness {cell.max_staleness}"
    return f"{shorten(cell.method)}, {where}"
