"""Tasks that got lost: how many, when and why."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.plotting.looks import add_legend, begin_at_zero, count_upwards
from fedasync_jax.plotting.styles import ORANGE, PINK, RED, SKY, TimeUnit, choose_unit
from fedasync_jax.schedule.trace import LOSS_REASONS

_COLORS = {"left": SKY, "failed": RED, "timed out": ORANGE, "late": PINK}
_MAX_BARS = 50


def draw_lost(
    lost: Mapping[str, Arrays], ends: Mapping[str, float], clock: str = "simulated"
) -> Figure:
    """Draw how many tasks got lost in the course of the run, a panel a method.

    Args:
      lost: see ``contents.Contents.lost``.
      ends: when the last model arrived, seconds, by method.
      clock: what these are, see ``styles.TimeUnit``.
    """
    fig = Figure(figsize=(6.4, 0.4 + 1.7 * len(lost)), layout="constrained")
    panels = fig.subplots(len(lost), 1, squeeze=False)[:, 0]
    for ax, (method, arrays) in zip(panels, lost.items(), strict=True):
        unit = choose_unit(ends[method], clock)
        draw_bars(ax, arrays, ends[method], unit)
        count_upwards(ax, 4)
        begin_at_zero(ax, ends[method] / unit.seconds)
        ax.xaxis.set_major_formatter("{x:,g}")
        ax.set_xlabel(unit.label)
        ax.set_title(f"{method}: {_count_reasons(arrays)}", loc="left")
    add_legend(fig)
    return fig


def draw_bars(ax: Axes, lost: Arrays, end: float, unit: TimeUnit) -> None:
    """Draw lost tasks over time, stacked by reason.

    Args:
      ax: where.
      lost: the tasks of one method.
      end: of the run, seconds.
      unit: of x.
    """
    edges, width = _make_bins(end)
    below = np.zeros(len(edges) - 1)
    for code in np.unique(lost["reason"]):
        heights, _ = np.histogram(lost["end_time"][lost["reason"] == code], edges)
        ax.bar(
            edges[:-1] / unit.seconds,
            heights,
            np.diff(edges) / unit.seconds,
            below,
            align="edge",
            color=_COLORS[LOSS_REASONS[code]],
            label=LOSS_REASONS[code],
        )
        below += heights
    ax.set_ylabel(f"Lost tasks\nper {width}")


def _count_reasons(lost: Arrays) -> str:
    codes, counts = np.unique(lost["reason"], return_counts=True)
    pairs = zip(codes, counts, strict=True)
    return ", ".join(f"{count:,} {LOSS_REASONS[code]}" for code, count in pairs)


def _make_bins(end: float) -> tuple[np.ndarray, str]:
    """Return edges of at most 50 parts of a round length, and that length in words."""
    unit = choose_unit(3 * end / _MAX_BARS)
    locator = MaxNLocator(_MAX_BARS, steps=[1, 2, 5, 10])
    edges = np.asarray(locator.tick_values(0, end / unit.seconds))
    return edges * unit.seconds, f"{edges[1]:g} {unit.name}"
