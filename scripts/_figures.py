"""The paper's figures as runs: which settings each curve needs, at which scale.

A *cell* is one method with one alpha at one maximum staleness; with a seed it is a run.
Figures share cells: FedAvg and SGD belong to all figures of their data set.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.config import Settings
from fedasync_jax.presets import make_settings

FEDASYNC = ("fedasync-constant", "fedasync-polynomial", "fedasync-hinge")
BASELINES = ("fedavg", "sgd")


class Cell(NamedTuple):
    """One curve.

    Attributes:
      data: cifar or wikitext.
      method: as in the settings.
      max_staleness: None for a baseline.
      alpha: None for a baseline.
      hinge_a: a of a hinge, else None.
    """

    data: str
    method: str
    max_staleness: int | None = None
    alpha: float | None = None
    hinge_a: float | None = None

    @property
    def name(self) -> str:
        """The name of its folder."""
        parts = [self.data, self.method]
        if self.max_staleness is not None:
            parts += [f"s{self.max_staleness}", f"a{self.alpha:g}"]
        if self.hinge_a is not None:
            parts.append(f"h{self.hinge_a:g}")
        return "-".join(parts)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the runs are.

    Attributes:
      presets: name of the preset by data.
      changes: what is different from it, by data.
      sweep: maximum stalenesses of the sweep.
      seeds: seeds that are run if no others are named; those of the authors' scripts.
    """

    presets: Mapping[str, str]
    changes: Mapping[str, Mapping[str, Any]]
    sweep: tuple[int, ...]
    seeds: tuple[int, ...]


SCALES: Mapping[str, Scale] = {
    "paper": Scale(
        presets={"cifar": "cifar10-paper", "wikitext": "wikitext2-paper"},
        changes={"cifar": {}, "wikitext": {}},
        sweep=(2, 4, 6, 8, 12, 16, 20, 30, 40, 50),
        seeds=(337, 773, 557, 755),
    ),
    "small": Scale(
        presets={"cifar": "cifar10-small", "wikitext": "wikitext2-small"},
        changes={"cifar": {}, "wikitext": {}},
        sweep=(2, 4, 16, 50),
        seeds=(337, 773, 557),
    ),
}


def _curves(data: str, max_staleness: int, alphas: tuple[float, ...]) -> list[Cell]:
    asynchronous = [
        Cell(
            data,
            method,
            max_staleness,
            alpha,
            10.0 if method == "fedasync-hinge" else None,
        )
        for alpha in alphas
        for method in FEDASYNC
    ]
    return asynchronous + [Cell(data, method) for method in BASELINES]


def _sweep(scale: Scale) -> list[Cell]:
    """Return the sweep over staleness, whose hinge is (4, 4) as the authors' is."""
    cells = [
        Cell(
            "cifar",
            method,
            max_staleness,
            0.9,
            4.0 if method == "fedasync-hinge" else None,
        )
        for max_staleness in scale.sweep
        for method in FEDASYNC
    ]
    return cells + [Cell("cifar", method) for method in BASELINES]


FIGURES = {
    "cifar-staleness-4": lambda scale: _curves("cifar", 4, (0.6, 0.9)),
    "cifar-staleness-16": lambda scale: _curves("cifar", 16, (0.6, 0.9)),
    "cifar-sweep": _sweep,
    "wikitext-4": lambda scale: _curves("wikitext", 4, (0.4, 0.8)),
    "wikitext-16": lambda scale: _curves("wikitext", 16, (0.4, 0.8)),
}


def make_cell_settings(
    cell: Cell, scale: Scale, seed: int, data_path: Path | None
) -> Settings:
    """Return the settings of a run."""
    changes = dict(scale.changes[cell.data])
    if cell.max_staleness is not None:
        changes |= {"max_staleness": cell.max_staleness, "alpha": cell.alpha}
    if cell.data == "wikitext" and cell.max_staleness == 16:
        changes["hinge_b"] = 4.0
    if cell.hinge_a is not None:
        changes["hinge_a"] = cell.hinge_a
    return make_settings(
        scale.presets[cell.data],
        methods=(cell.method,),
        seed=seed,
        data_path=data_path,
        **changes,
    )


def list_cells(figures: tuple[str, ...], scale: Scale) -> Iterator[Cell]:
    """Yield the cells that the figures need, each once."""
    seen = set()
    for figure in figures:
        for cell in FIGURES[figure](scale):
            if cell not in seen:
                seen.add(cell)
                yield cell
