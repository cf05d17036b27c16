"""What pictures have in common without drawing anything: colours, units, scales."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

# Okabe and Ito's colours, told apart by colour-blind readers; baselines are grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BLUE, RED, GREEN, PINK, ORANGE, SKY = COLORS
_BASELINE_COLORS = ("#000000", "#767676", "#A6A6A6")
_BASELINE_DASHES = ("--", ":", "-.")
_MARKERS = "osD^vP"


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
    """Unit of an axis of time.

    Attributes:
      name: as it is shown.
      seconds: how long it is.
      clock: "simulated" or "real" time; "" where both are in one picture.
    """

    name: str
    seconds: float
    clock: str = "simulated"

    @property
    def label(self) -> str:
        """What is written at the axis."""
        return f"{self.clock} time ({self.name})".strip().capitalize()


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


def choose_unit(longest: float, clock: str = "simulated") -> TimeUnit:
    """Return the longest unit of which ``longest`` seconds are three or more.

    >>> choose_unit(10_800.0).label
    'Simulated time (h)'
    >>> choose_unit(100.0, "real").label
    'Real time (s)'
    """
    units = TimeUnit("days", 86400.0), TimeUnit("h", 3600.0), TimeUnit("min", 60.0)
    fitting = (unit for unit in units if longest >= 3 * unit.seconds)
    return next(fitting, TimeUnit("s", 1.0))._replace(clock=clock)


def are_far_apart(ends: Sequence[float]) -> bool:
    """Return whether some curves would end far to the left of others."""
    positive = [end for end in ends if end]
    return bool(positive) and max(positive) > 5 * min(positive)
