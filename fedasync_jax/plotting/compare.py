"""Runs side by side: the same methods under other conditions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fedasync_jax.plotting.contents import Contents, name_clock
from fedasync_jax.plotting.curves import (
    choose_score,
    draw_curve,
    read_curve,
    scale_scores,
)
from fedasync_jax.plotting.looks import add_legend, columns_of, scale_counts
from fedasync_jax.plotting.styles import (
    LineStyle,
    are_far_apart,
    assign_styles,
    choose_unit,
)

_Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]


class _Block(NamedTuple):
    """Panels that belong together.

    Attributes:
      panels: curves by title and label.
      styles: how they look, by label.
    """

    panels: Mapping[str, _Curves]
    styles: Mapping[str, LineStyle]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        columns = columns_of(len(self.panels))
        return -(-len(self.panels) // columns), columns


def draw_comparison(runs: Mapping[str, Contents]) -> Figure:
    """Draw how good the models are against time, all on the same scales.

    Above, a panel a run; below, a panel a method that several runs have. If one of the
    runs has no clock, gradients take the place of time.

    Args:
      runs: by name, in order.
    """
    score = choose_score([rows for run in runs.values() for rows in run.rows.values()])
    curves, x_label = _read_curves(runs, score)
    blocks = [_compare_methods(runs, curves)]
    of_runs = _compare_runs(curves)
    blocks += [of_runs] if of_runs.panels else []
    fig = _draw_blocks(blocks, x_label, f"Test {score}")
    drawn = [y for lines in curves.values() for _, y in lines.values()]
    scale_scores(fig.axes[0], score, drawn)
    scale_counts(
        fig.axes[0], [x[-1] for lines in curves.values() for x, _ in lines.values()]
    )
    if x_label != "Gradients" and fig.axes[0].get_xscale() == "linear":
        fig.axes[0].xaxis.set_major_formatter("{x:,g}")
    return fig


def _read_curves(
    runs: Mapping[str, Contents], score: str
) -> tuple[Mapping[str, _Curves], str]:
    """Return the curves by run and method, and what is written at their x axes."""
    has_clock = all(run.has_clock(m) for run in runs.values() for m in run.rows)
    field = "virtual_time" if has_clock else "gradients"
    ends = [rows[-1][field] for run in runs.values() for rows in run.rows.values()]
    # A logarithmic axis has short and long times, and seconds are fit for both.
    clock = name_clock(runs.values())
    unit = choose_unit(0.0 if are_far_apart(ends) else max(ends), clock)
    curves = {
        name: {
            method: read_curve(rows, field, score, unit.seconds if has_clock else 1.0)
            for method, rows in run.rows.items()
        }
        for name, run in runs.items()
    }
    return curves, unit.label if has_clock else "Gradients"


def _compare_methods(
    runs: Mapping[str, Contents], curves: Mapping[str, _Curves]
) -> _Block:
    """Return a panel a run; a method looks the same in all of them."""
    methods = dict.fromkeys(method for run in runs.values() for method in run.rows)
    asynchronous = {method for run in runs.values() for method in run.asynchronous}
    return _Block(curves, assign_styles(list(methods), asynchronous))


def _compare_runs(curves: Mapping[str, _Curves]) -> _Block:
    """Return a panel a method that several runs have."""
    methods = dict.fromkeys(method for lines in curves.values() for method in lines)
    panels = {
        method: {run: lines[method] for run, lines in curves.items() if method in lines}
        for method in methods
    }
    several = {method: lines for method, lines in panels.items() if len(lines) > 1}
    return _Block(several, assign_styles(list(curves), list(curves)))


def _draw_blocks(blocks: Sequence[_Block], x_label: str, y_label: str) -> Figure:
    """Draw blocks one below the other."""
    heights = [0.6 + 2.3 * block.shape[0] for block in blocks]
    width = 0.6 + 2.9 * max(2, *(block.shape[1] for block in blocks))
    fig = Figure(figsize=(width, sum(heights)), layout="constrained")
    parts = fig.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)
    for part, block in zip(parts[:, 0], blocks, strict=True):
        panels = _draw_panels(part, block)
        for ax in panels[-block.shape[1] :]:
            ax.set_xlabel(x_label)
        for ax in panels[:: block.shape[1]]:
            ax.set_ylabel(y_label)
        add_legend(part)
    return fig


def _draw_panels(part: SubFigure, block: _Block) -> list[Axes]:
    axes = part.subplots(*block.shape, squeeze=False).ravel().tolist()
    first = part.figure.axes[0]
    for ax, (title, lines) in zip(axes, block.panels.items(), strict=False):
        if ax is not first:
            ax.sharex(first)
            ax.sharey(first)
        for label, (x, y) in lines.items():
            draw_curve(ax, x, y, block.styles[label], label)
        ax.set_title(title, loc="left")
    for ax in axes[len(block.panels) :]:
        ax.remove()
    return axes[: len(block.panels)]
