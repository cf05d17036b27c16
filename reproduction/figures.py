"""The paper's figures as runs: which settings each curve needs, at which scale.

A *cell* is one method with one alpha at one maximum staleness; with a seed it is a run.
Figures share cells: FedAvg and SGD belong to all figures of their data set.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.sweep import Point
from reproduction.scales import Scale

FEDASYNC = ("fedasync-constant", "fedasync-polynomial", "fedasync-hinge")
BASELINES = ("fedavg", "sgd")
SWEPT_ALPHA = 0.9
_RARELY = 50  # updates between evaluations


class Cell(NamedTuple):
    """One curve.

    Attributes:
      data: cifar or text.
      method: as in the settings; of delta, alpha is the step.
      max_staleness: None for a baseline.
      alpha: None for a baseline.
      hinge: a and b of a hinge, else None.
      is_halved: whether alpha drops on the way, where the protocol has it so.
      factor: how many times as long it is as the scale has it.
    """

    data: str
    method: str
    max_staleness: int | None = None
    alpha: float | None = None
    hinge: tuple[float, float] | None = None
    is_halved: bool = True
    factor: int = 1

    @property
    def name(self) -> str:
        """The name of its folder."""
        parts = [self.data, self.method]
        if self.max_staleness is not None:
            parts += [f"staleness-{self.max_staleness}", f"alpha-{self.alpha:g}"]
        if self.hinge is not None:
            parts.append("a-{:g}-b-{:g}".format(*self.hinge))
        parts += ["not-halved"] * (not self.is_halved)
        parts += [f"times-{self.factor}"] * (self.factor > 1)
        return "-".join(parts)


class Figure(NamedTuple):
    """One figure of the paper.

    Attributes:
      name: as on the command line.
      data: cifar or text.
      max_staleness: of its asynchronous curves; several of a sweep.
      alphas: of its asynchronous curves.
      hinge: a and b.
    """

    name: str
    data: str
    max_staleness: tuple[int, ...]
    alphas: tuple[float, ...]
    hinge: tuple[float, float]

    @property
    def is_sweep(self) -> bool:
        """Whether final metrics are shown against staleness, not curves."""
        return self.name.endswith("sweep")

    @property
    def largest(self) -> int:
        """Its largest maximum staleness."""
        return self.max_staleness[-1]

    def title(self, scale: Scale) -> str:
        """Return what stands above it."""
        ends = dict.fromkeys((self.max_staleness[0], self.max_staleness[-1]))
        return f"{scale.names[self.data]}, max staleness {' to '.join(map(str, ends))}"

    def cell(self, method: str, max_staleness: int, alpha: float) -> Cell:
        """Return an asynchronous curve.

        A hinge that is the constant is not run twice by a sweep.
        """
        if self.is_sweep and method not in self.methods(max_staleness):
            return Cell(self.data, "fedasync-constant", max_staleness, alpha)
        hinge = self.hinge if method == "fedasync-hinge" else None
        return Cell(self.data, method, max_staleness, alpha, hinge)

    def methods(self, max_staleness: int) -> list[str]:
        """Return the asynchronous methods, without a hinge that is the constant.

        It is where no arrival is staler than b.
        """
        is_constant = max_staleness - 1 <= self.hinge[1]
        return [m for m in FEDASYNC if not (is_constant and m == "fedasync-hinge")]

    def curves(self) -> list[Cell]:
        """Return the asynchronous curves, without those that equal another."""
        return [
            self.cell(method, max_staleness, alpha)
            for max_staleness in self.max_staleness
            for alpha in self.alphas
            for method in self.methods(max_staleness)
        ]

    def cells(self) -> list[Cell]:
        """Return all curves, the baselines first, each once."""
        cells = [Cell(self.data, method) for method in BASELINES]
        for max_staleness in self.max_staleness:
            for alpha in self.alphas:
                cells += [self.cell(m, max_staleness, alpha) for m in FEDASYNC]
        return list(dict.fromkeys(cells))


def make_figures(scale: Scale) -> dict[str, Figure]:
    """Return the figures by name."""
    figures = (
        Figure("cifar-staleness-4", "cifar", (4,), (0.6, 0.9), (10.0, 4.0)),
        Figure("cifar-staleness-16", "cifar", (16,), (0.6, 0.9), (10.0, 4.0)),
        Figure("cifar-sweep", "cifar", scale.sweep, (SWEPT_ALPHA,), (4.0, 4.0)),
        Figure("wikitext-4", "text", (4,), (0.4, 0.8), (10.0, 2.0)),
        Figure("wikitext-16", "text", (16,), (0.4, 0.8), (10.0, 4.0)),
    )
    return {figure.name: figure for figure in figures}


def make_point(
    cell: Cell,
    scale: Scale,
    seed: int,
    out: Path,
    data_path: Path | None,
    num_updates: int | None = None,
) -> Point:
    """Return the run of a cell and a seed.

    Args:
      cell: the curve.
      scale: how large.
      seed: of everything random.
      out: folder of all runs.
      data_path: see ``Settings``.
      num_updates: fewer or more than the scale has.
    """
    changes = dict(scale.changes[cell.data])
    line = cell.method
    if cell.max_staleness is not None:
        changes["max_staleness"] = cell.max_staleness
        if cell.method == "delta":
            line = f"delta:step={cell.alpha:g}"
        else:
            changes["alpha"] = cell.alpha
    if cell.hinge is not None:
        changes |= {"hinge_a": cell.hinge[0], "hinge_b": cell.hinge[1]}
    if not cell.is_halved:
        changes["alpha_drop_at"] = None
    if num_updates is not None:
        changes["num_updates"] = num_updates
    settings = make_settings(
        scale.presets[cell.data],
        methods=(line,),
        seed=seed,
        data_path=data_path,
        **changes,
    )
    settings = settings.replace(num_updates=cell.factor * settings.run.num_updates)
    if not cell.is_halved or cell.factor > 1:  # only its end is read
        rarely = max(_RARELY, settings.run.eval_every)
        settings = settings.replace(eval_every=rarely)
    return Point(out / cell.name / f"seed-{seed}", settings)


def find_own(figure: Figure, figures: Iterable[Figure]) -> list[Cell]:
    """Return the curves that belong to this figure alone."""
    shared = {cell for other in figures if other != figure for cell in other.cells()}
    return [cell for cell in figure.cells() if cell not in shared]


def list_cells(figures: Sequence[Figure]) -> list[Cell]:
    """Return the cells that the figures need, each once."""
    return list(dict.fromkeys(cell for figure in figures for cell in figure.cells()))


def read_key(record: Mapping[str, Any]) -> tuple[Cell, int]:
    """Return cell and seed of a record."""
    fields = record["cell"]
    hinge = None if fields["hinge"] is None else tuple(fields["hinge"])
    return Cell(**{**fields, "hinge": hinge}), record["seed"]
