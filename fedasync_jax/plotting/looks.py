"""Looks of all pictures: colours, scales, units, numbers on the axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import EngFormatter, MaxNLocator

from fedasync_jax.plotting.styles import are_far_apart

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
}


def scale_counts(ax: Axes, ends: Sequence[float]) -> None:
    """Set the scale of x: logarithmic if curves end far apart."""
    if are_far_apart(ends):
        ax.set_xscale("log", nonpositive="mask")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def begin_at_zero(ax: Axes, end: float) -> None:
    """Let x go from 0 to the end; of a run in which no time passes, to 1."""
    ax.set_xlim(0, end if end > 0 else 1)


def count_upwards(ax: Axes, most: int = 5) -> None:
    """Scale y from zero on, in whole numbers and so many parts at most."""
    ax.use_sticky_edges = False  # room above stacked bars
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], integer=True))


def draw_boxes(ax: Axes, x: np.ndarray, y: np.ndarray, **look: Any) -> None:
    """Draw rectangles as one artist: as bars, hundreds of them take a second.

    Args:
      ax: where.
      x: float [N, 2], their left and right ends.
      y: float [N, 2], their lower and upper ends.
      **look: of ``PolyCollection``.
    """
    corners = np.stack([x[:, [0, 1, 1, 0]], y[:, [0, 0, 1, 1]]], axis=-1)
    ax.add_collection(PolyCollection(list(corners), **look))
    ax.autoscale_view()


def percent(share: float, position: float = 0) -> str:
    """Return the share as per cent, as matplotlib asks for it."""
    del position
    return f"{100 * share:.3g}%"


def columns_of(count: int, most: int = 4) -> int:
    """Return how many columns give rows of nearly equal length.

    >>> columns_of(5)
    3
    """
    rows = -(-count // most)
    return -(-count // rows)


def add_legend(fig: Any, most: int = 4) -> None:
    """Name everything in a figure once, below it.

    Args:
      fig: a figure or part of one.
      most: names in a row.
    """
    handles = {}
    for ax in fig.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    fig.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns_of(len(handles), most),
    )
