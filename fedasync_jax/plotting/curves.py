"""Curves: how good the model is, against gradients, updates and time."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.plotting.looks import add_legend, percent, scale_counts
from fedasync_jax.plotting.series import (
    choose_limits,
    choose_score,
    clean_values,
    read_curve,
)
from fedasync_jax.plotting.styles import LineStyle, TimeUnit
from fedasync_jax.storage.run_folder import Row

Rows = Mapping[str, Sequence[Row]]

_AXES = {
    "gradients": "Gradients",
    "updates": "Server updates",
    "virtual_time": "",
}


def draw_scores(
    rows: Rows, styles: Mapping[str, LineStyle], clock: str = "simulated"
) -> tuple[str, Figure]:
    """Draw accuracy, perplexity or loss, whichever there is; return which, too."""
    score = choose_score(rows.values())
    axes = {  # sampled staleness has no clock
        field: label or TimeUnit("s", 1.0, clock).label
        for field, label in _AXES.items()
        if any(rows[method][-1][field] for method in styles)
    }
    fig = Figure(figsize=(3.2 * len(axes), 3.5), layout="constrained")
    panels = fig.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    curves = []
    for ax, (field, label) in zip(panels, axes.items(), strict=True):
        for method, style in styles.items():
            x, y = read_curve(rows[method], field, score)
            draw_curve(ax, x, y, style, method)
            curves.append(y)
        ax.set_xlabel(label)
        scale_counts(ax, [rows[method][-1][field] for method in styles])
    panels[0].set_ylabel(f"Test {score}")
    scale_scores(panels[0], score, curves)
    add_legend(fig)
    return score, fig


def draw_curve(
    ax: Axes, x: np.ndarray, y: np.ndarray, style: LineStyle, label: str
) -> None:
    """Draw a line with about eight markers."""
    ax.plot(x, y, **style._asdict(), markevery=max(1, x.size // 8), label=label)


def scale_scores(ax: Axes, score: str, curves: Sequence[np.ndarray] = ()) -> None:
    """Set the scale of y: per cent for accuracy, logarithmic for all else.

    Where the second halves of the curves would share a small part of the height, as
    all begin at chance and end close together, they get most of it.

    Args:
      ax: where.
      score: accuracy, perplexity or loss.
      curves: what is drawn, [P] each.
    """
    if score == "accuracy":
        ax.yaxis.set_major_formatter(percent)
        _focus(ax, curves)
        return
    if curves and not clean_values(curves, is_log=True).size:
        return  # nothing that a logarithmic axis could show
    ax.set_yscale("log")
    _focus(ax, curves)
    if score == "perplexity":
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.yaxis.set_minor_formatter("{x:,.0f}")


def _focus(ax: Axes, curves: Sequence[np.ndarray]) -> None:
    limits = choose_limits(curves, is_log=ax.get_yscale() == "log")
    if limits is not None:
        ax.set_ylim(*limits)
