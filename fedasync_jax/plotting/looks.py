"""Looks of all pictures: colours, scales, units, numbers on the axes."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

# Okabe and Ito's colours, told apart by colour-blind readers; baselines are grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BLUE, RED, GREEN, PINK, ORANGE, SKY = COLORS
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
    "hatch.linewidth": 0.6,
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


class TimeUnit(NamedTuple):
    """Unit of an axis of simulated time.

    Attributes:
      name: as it is shown.
      seconds: how long it is.
    """

    name: str
    seconds: float

    @property
    def label(self) -> str:
        """What is written at the axis."""
        return f"Simulated time ({self.name})"


def assign_styles(
    methods: Sequence[str], asynchronous: Collection[str]
) -> dict[str, LineStyle]:
    """Style the methods in order: coloured if asynchronous, or else grey."""
    styles, counts = {}, [0, 0]
    for method in methods:
        solid = method in asynchronous
        i = counts[solid]
        counts[solid] += 1
        colors = COLORS if solid else _BASELINE_COLORS
        linestyle = "-" if solid else _BASELINE_DASHES[i % 3]
        marker = _MARKERS[i % 6] if solid else ""
        styles[method] = LineStyle(colors[i % len(colors)], linestyle, marker)
    return styles


def choose_unit(longest: float) -> TimeUnit:
    """Return the longest unit of which ``longest`` seconds are three or more.

    >>> choose_unit(10_800.0).label
    'Simulated time (h)'
    """
    units = TimeUnit("days", 86400.0), TimeUnit("h", 3600.0), TimeUnit("min", 60.0)
    fitting = (unit for unit in units if longest >= 3 * unit.seconds)
    return next(fitting, TimeUnit("s", 1.0))


def are_far_apart(ends: Sequence[float]) -> bool:
    """Return whether some curves would end far to the left of others."""
    positive = [end for end in ends if end]
    return bool(positive) and max(positive) > 5 * min(positive)


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
