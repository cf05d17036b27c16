"""Curves: how good the model is, against gradients, updates and simulated time."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.jobs.scores import name_score
from fedasync_jax.plotting.looks import LineStyle, add_legend, percent, scale_counts
from fedasync_jax.storage.run_folder import Row

Rows = Mapping[str, Sequence[Row]]

_AXES = {
    "gradients": "Gradients",
    "updates": "Server updates",
    "virtual_time": "Simulated time (s)",
}


def draw_scores(rows: Rows, styles: Mapping[str, LineStyle]) -> tuple[str, Figure]:
    """Draw accuracy, perplexity or loss, whichever there is; return which, too."""
    score = choose_score(rows.values())
    axes = {  # sampled staleness has no clock
        field: label
        for field, label in _AXES.items()
        if any(rows[method][-1][field] for method in styles)
    }
    fig = Figure(figsize=(3.2 * len(axes), 3.5), layout="constrained")
    panels = fig.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for ax, (field, label) in zip(panels, axes.items(), strict=True):
        for method, style in styles.items():
            x, y = read_curve(rows[method], field, score)
            draw_curve(ax, x, y, style, method)
        ax.set_xlabel(label)
        scale_counts(ax, [rows[method][-1][field] for method in styles])
    panels[0].set_ylabel(f"Test {score}")
    scale_scores(panels[0], score)
    add_legend(fig)
    return score, fig


def choose_score(methods: Collection[Sequence[Row]]) -> str:
    """Return ``perplexity``, ``accuracy`` or ``loss``: what all methods have."""
    names = {name_score(rows[-1]) for rows in methods}
    if len(names) == 1:
        return names.pop()
    return "loss" if "loss" in names else "accuracy"


def read_curve(
    rows: Sequence[Row], field: str, score: str, unit: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return x, divided by a unit, and y as float; NaN where there is none."""
    x, y = (
        np.array([row[name] for row in rows], float)
        for name in (field, f"test_{score}")
    )
    return x / unit, y


def draw_curve(
    ax: Axes, x: np.ndarray, y: np.ndarray, style: LineStyle, label: str
) -> None:
    """Draw a line with about eight markers."""
    ax.plot(x, y, **style._asdict(), markevery=max(1, x.size // 8), label=label)


def scale_scores(ax: Axes, score: str) -> None:
    """Set the scale of y: per cent for accuracy, logarithmic for all else."""
    if score == "accuracy":
        ax.yaxis.set_major_formatter(percent)
        return
    ax.set_yscale("log")
    if score == "perplexity":
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.yaxis.set_minor_formatter("{x:,.0f}")
