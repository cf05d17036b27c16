"""Looks of all pictures: colours, scales, numbers on the axes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from fedasync_jax.run_folder import slugify

# Okabe and Ito's colours, told apart by colour-blind readers; baselines are grey.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_BASELINE_COLORS = ("#000000", "#767676", "#A6A6A6")
_BASELINE_DASHES = ("--", ":", "-.")
_MARKERS = "osD^vP"
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
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
}


class LineStyle(NamedTuple):
    """How one method looks, the same in every panel and picture.

    Attributes:
      color: matplotlib colour.
      linestyle: matplotlib line style; asynchronous methods are solid.
      marker: matplotlib marker.
    """

    color: str
    linestyle: str
    marker: str


def assign_styles(methods: Sequence[str], stale: set[str]) -> dict[str, LineStyle]:
    """Style the methods in order; ``stale`` has those that are asynchronous."""
    styles, counts = {}, [0, 0]
    for method in methods:
        solid = method in stale or slugify(method).startswith("fedasync")
        i = counts[solid]
        counts[solid] += 1
        colors = _COLORS if solid else _BASELINE_COLORS
        linestyle = "-" if solid else _BASELINE_DASHES[i % 3]
        marker = _MARKERS[i % 6] if solid else ""
        styles[method] = LineStyle(colors[i % len(colors)], linestyle, marker)
    return styles


def scale_counts(ax: Axes, ends: Sequence[float]) -> None:
    """Set the scale of x: logarithmic if some curves would end far to the left."""
    positive = [end for end in ends if end]
    if positive and max(positive) > 5 * min(positive):
        ax.set_xscale("log", nonpositive="mask")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def percent(share: float, position: float = 0) -> str:
    """Return the share as per cent, as matplotlib asks for it."""
    del position
    return f"{100 * share:.3g}%"
