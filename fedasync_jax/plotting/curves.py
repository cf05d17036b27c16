"""Curves: how good the model is, against gradients, updates and simulated time."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.jobs.scores import name_score
from fedasync_jax.plotting.looks import LineStyle, add_legend, percent, scale_counts
from fedasync_jax.storage.run_folder import Row

Rows = Mapping[str, Sequence[Row]]

_LITTLE = 0.4  # of the height, below which late values get more
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
    if curves and not _clean(curves, is_log=True).size:
        return  # nothing that a logarithmic axis could show
    ax.set_yscale("log")
    _focus(ax, curves)
    if score == "perplexity":
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.yaxis.set_minor_formatter("{x:,.0f}")


def _focus(ax: Axes, curves: Sequence[np.ndarray]) -> None:
    """Let y show what the second halves of curves span, if that is little of all."""
    is_log = ax.get_yscale() == "log"
    late = _clean([curve[curve.size // 2 :] for curve in curves], is_log)
    values = _clean(curves, is_log)
    if not late.size:
        return
    low, high = late.min(), late.max()
    room = (high - low) / 4
    if room > 0 and high - low < _LITTLE * (values.max() - values.min()):
        limits = np.array([low - room, high + room])
        bottom, top = np.clip(limits, values.min(), values.max() + room / 8)
        ax.set_ylim(*(np.exp([bottom, top]) if is_log else (bottom, top)))


def _clean(curves: Sequence[np.ndarray], is_log: bool) -> np.ndarray:
    """Return all finite values, as they lie along the axis."""
    values = np.concatenate([np.zeros(0), *curves])
    values = values[np.isfinite(values) & (values > 0 if is_log else True)]
    return np.log(values) if is_log else values
