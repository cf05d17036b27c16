"""The paper's figures, drawn from the evidence."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure as Picture

from fedasync_jax.experiment.method_names import list_fedasync
from fedasync_jax.plotting.bands import Band, draw_against, draw_bands
from fedasync_jax.plotting.looks import STYLE
from reproduction.described import list_shown
from reproduction.evidence import Evidence, make_evidence
from reproduction.figures import FEDASYNC, Cell, Figure
from reproduction.why_page import draw_why


def draw_all(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw every figure that has a curve of its own, as PNG.

    Args:
      results: see ``make_results``.
      folder: for the pictures.
    """
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for figure in list_shown(results):
        evidence = make_evidence(results["runs"], figure.cells())
        if evidence is None:
            continue
        with matplotlib.rc_context(STYLE):
            fig = (_draw_sweep if figure.is_sweep else _draw_curves)(figure, evidence)
            paths.append(folder / f"{figure.name}.png")
            fig.savefig(paths[-1], dpi=150)
    picture = draw_why(results["runs"], folder)
    return paths if picture is None else [*paths, picture]


def _draw_curves(figure: Figure, evidence: Evidence) -> Picture:
    score, values = _score(evidence)
    panels = {}
    for alpha in figure.alphas:
        cells = [
            figure.cell(method, figure.max_staleness[0], alpha) for method in FEDASYNC
        ]
        bands = [
            Band(_label(cell), evidence.gradients, values(cell))
            for cell in cells
            if cell in evidence.curves
        ]
        bands += [
            Band(_label(cell), evidence.gradients, values(cell), is_async=False)
            for cell in _baselines(figure, evidence)
        ]
        panels[f"max staleness {figure.max_staleness[0]}, α = {alpha:g}"] = bands
    return draw_bands(panels, score)


def _draw_sweep(figure: Figure, evidence: Evidence) -> Picture:
    score, values = _score(evidence)
    last = slice(-max(1, len(evidence.gradients) // 4), None)

    def final(cell: Cell) -> np.ndarray:
        return values(cell)[:, last].mean(1)

    bands = []
    for method in FEDASYNC:
        cells = [figure.cell(method, k, figure.alphas[0]) for k in figure.max_staleness]
        there = [
            (k, cell)
            for k, cell in zip(figure.max_staleness, cells, strict=True)
            if cell in evidence.curves
        ]
        if there:
            x = np.array([k for k, _ in there])
            y = np.stack([final(cell) for _, cell in there], axis=1)
            hinge = figure.hinge if method == "fedasync-hinge" else None
            label = _label(Cell(figure.data, method, hinge=hinge))
            bands.append(Band(label, x, y))
    levels = [
        Band(_label(cell), np.zeros(1), final(cell)[:, None], is_async=False)
        for cell in _baselines(figure, evidence)
    ]
    title = f"α = {figure.alphas[0]:g}, mean of the last quarter of the evaluations"
    return draw_against({title: bands}, score, "Max staleness", levels)


def _baselines(figure: Figure, evidence: Evidence) -> list[Cell]:
    cells = [cell for cell in figure.cells() if cell.max_staleness is None]
    return [cell for cell in cells if cell in evidence.curves]


def _score(evidence: Evidence) -> tuple[str, Callable[[Cell], np.ndarray]]:
    """Return what is drawn, and its values of a cell."""
    if evidence.is_text:
        return "perplexity", lambda cell: np.exp(-evidence.curves[cell])
    return "accuracy", lambda cell: evidence.curves[cell]


def _label(cell: Cell) -> str:
    kind = list_fedasync().get(cell.method)
    if kind is None:
        return {"fedavg": "FedAvg", "sgd": "SGD"}[cell.method]
    numbers = {
        "polynomial": "(0.5)",
        "hinge": "({:g}, {:g})".format(*(cell.hinge or (0, 0))),
    }
    return f"FedAsync {kind}{numbers.get(kind, '')}"
