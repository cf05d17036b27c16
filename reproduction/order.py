"""The order of the methods at two scales, side by side."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fedasync_jax.jobs.estimates import Estimate, estimate
from reproduction.evidence import make_evidence
from reproduction.figures import (
    Cell,
    list_cells,
    make_figures,
)
from reproduction.measures import Measures
from reproduction.positions import Positions
from reproduction.scales import SCALES
from reproduction.secondary import describe


def compare_orders(many_results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the positions of CIFAR-10's curves at every scale, and how orders agree.

    Nothing, if it was not run at two scales.

    Args:
      many_results: as ``reproduce.py`` writes them, of different scales.
    """
    tables = {r["scale"]: _list_positions(r) for r in many_results}
    tables = {scale: table for scale, table in tables.items() if table}
    if len(tables) < 2:
        return
    scales = list(tables)[:2]
    shared = [cell for cell in tables[scales[0]] if cell in tables[scales[1]]]
    positions = [[tables[scale][cell] for cell in shared] for scale in scales]
    made = [[_estimate(values) for values in rows] for rows in positions]
    means = [[one.mean for one in column] for column in made]
    yield "## The order of the methods at two scales"
    yield ""
    yield (
        "Position of the second half of the evaluations between FedAvg (0) and "
        "single-thread SGD (1) on CIFAR-10, with the 95% interval of its difference "
        "from FedAvg of the same seed, from the first to the last at scale "
        f"{scales[0]}. {_correlate(*positions)}"
    )
    yield ""
    yield f"| curve | {' | '.join(f'{scale} | place' for scale in scales)} |"
    yield "|---" * (1 + 2 * len(scales)) + "|"
    places = [_rank(column) for column in means]
    for i in sorted(range(len(shared)), key=lambda i: places[0][i]):
        cells = [
            f"{_show(column[i])} | {ranks[i]}"
            for column, ranks in zip(made, places, strict=True)
        ]
        yield f"| {_name(shared[i])} | {' | '.join(cells)} |"
    yield ""


def _list_positions(results: Mapping[str, Any]) -> dict[Cell, np.ndarray]:
    """Return positions [S] of all different curves of the figures over gradients."""
    figures = make_figures(SCALES[results["scale"]]).values()
    figures = [f for f in figures if f.data == "cifar" and not f.is_sweep]
    evidence = make_evidence(results["runs"], list_cells(figures))
    if evidence is None:
        return {}
    positions = Positions(Measures(evidence), "cifar")
    there = [cell for figure in figures for cell in positions.list_there(figure)]
    baselines = [positions.fedavg, positions.sgd] if there else []
    return {cell: positions.of_half(cell) for cell in [*baselines, *there]}


def _estimate(values: np.ndarray) -> Estimate:
    return estimate(values[np.isfinite(values)])


def _correlate(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> str:
    """Return in how many pairs of curves the same is above, of all and of the sure.

    Sure are those whose difference, seed by seed, has a 95% interval without zero at
    the first scale.
    """
    same, sure, both = 0, 0, 0
    pairs = list(itertools.combinations(range(len(one)), 2))
    for i, j in pairs:
        gaps = [_estimate(rows[i] - rows[j]) for rows in (one, other)]
        is_same = gaps[0].mean * gaps[1].mean > 0
        is_sure = gaps[0].low * gaps[0].high > 0
        same, sure, both = same + is_same, sure + is_sure, both + (is_same and is_sure)
    return (
        f"Of {len(pairs)} pairs of curves {same} are in the same order at both "
        f"(Kendall's tau {2 * same / len(pairs) - 1:.2f}); of the {sure} whose "
        f"difference has an interval without zero at the first, {both}."
    )


def _rank(values: Sequence[float]) -> list[int]:
    return [1 + sum(other > value for other in values) for value in values]


def _name(cell: Cell) -> str:
    if cell.max_staleness is None:
        return {"fedavg": "FedAvg", "sgd": "SGD"}[cell.method]
    return f"FedAsync {describe(cell)}"


def _show(made: Estimate) -> str:
    if made.n < 2 or made.sd == 0:
        return f"{made.mean:.2f}"
    return f"{made.mean:.2f} ({made.low:.2f} to {made.high:.2f})"
