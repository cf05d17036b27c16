"""What large staleness costs, and through what: picture, table and sentence."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from fedasync_jax.jobs.estimates import Estimate, estimate
from fedasync_jax.plotting.bands import Band, draw_against
from fedasync_jax.plotting.looks import STYLE
from reproduction.figures import SWEPT_ALPHA, Cell
from reproduction.why import (
    ALPHAS,
    LONGER,
    STALENESS,
    STEPS,
    delta_cell,
    paper_cell,
    pulled_cell,
    read_ends,
)

_FEDAVG = Cell("cifar", "fedavg")
_LONG_FEDAVG = _FEDAVG._replace(factor=LONGER)


class _Ends:
    """Where the runs end, seed by seed."""

    def __init__(self, records: Sequence[Mapping[str, Any]]):
        self._ends = read_ends(records)
        self.seeds = list(next(iter(self._ends.values()), {}))

    def of(self, cell: Cell) -> np.ndarray:
        """Return the values of a curve, [S]."""
        return np.array([self._ends[cell][seed] for seed in self.seeds])

    def gap(self, cell: Cell) -> np.ndarray:
        """Return how far above FedAvg it ends after as many gradients, [S]."""
        return self.of(cell) - self.of(_LONG_FEDAVG if cell.factor > 1 else _FEDAVG)

    def find_best(self, cells: Sequence[Cell]) -> Cell:
        """Return the one that ends highest, on average."""
        return max(cells, key=lambda cell: self.of(cell).mean())


def draw_why(records: Sequence[Mapping[str, Any]], folder: Path) -> Path | None:
    """Draw final accuracy against alpha, with and without the pull, as PNG.

    Args:
      records: of a results file.
      folder: for the picture.

    Returns:
      Its path; None if not all the runs are there.
    """
    ends = _Ends(records)
    if not ends.seeds:
        return None
    panels = {}
    for k in STALENESS:
        lines = {
            "FedAsync, alpha stays": [pulled_cell(k, alpha) for alpha in ALPHAS],
            "delta rule: no pull": [delta_cell(k, step) for step in STEPS],
            "FedAsync, alpha halved at 800": [paper_cell(k)],
            f"the same, {LONGER} times as long": [
                paper_cell(k)._replace(factor=LONGER)
            ],
        }
        panels[f"max staleness {k}"] = [
            Band(
                label,
                np.array([cell.alpha for cell in cells]),
                np.stack([ends.of(cell) for cell in cells], axis=1),
            )
            for label, cells in lines.items()
        ]
    levels = [
        Band(label, np.zeros(1), ends.of(cell)[:, None], is_async=False)
        for label, cell in (
            ("FedAvg", _FEDAVG),
            (f"FedAvg, {LONGER} times as long", _LONG_FEDAVG),
            ("SGD", Cell("cifar", "sgd")),
        )
    ]
    with matplotlib.rc_context(STYLE):
        fig = draw_against(
            panels, "accuracy", "alpha, or step of the delta rule", levels
        )
        pulled = [pulled_cell(k, alpha) for k in STALENESS for alpha in ALPHAS]
        fig.axes[0].set_ylim(bottom=min(ends.of(cell).min() for cell in pulled) - 0.02)
        path = folder / "why.png"
        fig.savefig(path, dpi=150)
    return path


def explain_why(records: Sequence[Mapping[str, Any]], picture: str) -> Iterator[str]:
    """Yield sentence, picture and table; nothing if not all the runs are there.

    Args:
      records: of a results file.
      picture: path of the picture.
    """
    ends = _Ends(records)
    if not ends.seeds:
        return
    yield "## What large staleness costs, and through what"
    yield ""
    yield (
        "FedAsync steps to x + a (y - x), which is x + a (y - x_tau) + a (x_tau - x): "
        "the client's change, and a pull towards the stale model that it started from. "
        "Three things may cost accuracy where staleness is large: the pull, the alpha "
        "that is halved at update 800, and runs that are too short. On the same traces "
        "(constant weights, last quarter of the evaluations, "
        f"{len(ends.seeds)} seeds), against FedAvg after as many gradients:"
    )
    yield ""
    for k in STALENESS:
        yield f"* **Max staleness {k}.** {_sum_up(ends, k)}"
    yield ""
    yield (
        "The best alpha and the best step are those with the highest test accuracy in "
        "the table: this is a diagnosis, no comparison of tuned methods. Steps of the "
        "delta rule that end far lower leave the picture at its lower edge."
    )
    yield ""
    yield f"![final accuracy against alpha]({picture})"
    yield ""
    yield f"| run | {' | '.join(f'max staleness {k}' for k in STALENESS)} |"
    yield "|---" * (1 + len(STALENESS)) + "|"
    for text, *cells in _list_rows():
        shown = " | ".join(_show(estimate(ends.gap(cell))) for cell in cells)
        yield f"| {text} | {shown} |"
    yield ""


def _list_rows() -> Iterator[tuple[Any, ...]]:
    """Yield what runs are called, and the curve of each staleness."""
    many = f"{LONGER} times as long"
    yield (
        f"FedAsync, alpha {SWEPT_ALPHA:g}, halved at 800",
        *(paper_cell(k) for k in STALENESS),
    )
    yield (
        f"the same, {many} (FedAvg, too)",
        *(paper_cell(k)._replace(factor=LONGER) for k in STALENESS),
    )
    for alpha in ALPHAS:
        cells = (pulled_cell(k, alpha) for k in STALENESS)
        yield (f"FedAsync, alpha {alpha:g} throughout", *cells)
    for step in STEPS:
        cells = (delta_cell(k, step) for k in STALENESS)
        yield (f"delta rule, step {step:g}", *cells)


def _sum_up(ends: _Ends, k: int) -> str:
    """Return in one line what each of the suspects is worth."""
    usual = paper_cell(k)
    pulled = ends.find_best([pulled_cell(k, alpha) for alpha in ALPHAS])
    free = ends.find_best([delta_cell(k, step) for step in STEPS])
    base = ends.gap(usual)
    gains = {
        "leaving out the halving": ends.gap(pulled_cell(k, SWEPT_ALPHA)) - base,
        f"runs {LONGER} times as long": ends.gap(usual._replace(factor=LONGER)) - base,
        f"a smaller alpha ({pulled.alpha:g} throughout)": ends.gap(pulled) - base,
        f"no pull (delta rule, step {free.alpha:g})": ends.gap(free) - base,
    }
    worth = "; ".join(
        f"{name} {_show(estimate(values))}" for name, values in gains.items()
    )
    return (
        f"The paper's setting ends {_show(estimate(base))} from FedAvg. What changes "
        f"that: {worth}."
    )


def _show(made: Estimate) -> str:
    """Return mean and interval in points of accuracy."""
    mean, low, high = (100 * value for value in (made.mean, made.low, made.high))
    interval = f" ({low:+.1f} to {high:+.1f})" if made.n > 1 else ""
    return f"{mean:+.1f} points{interval}"
