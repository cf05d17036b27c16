"""Staleness over the run, and when tasks got lost, by reason."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.plotting.looks import add_legend, begin_at_zero, count_upwards
from fedasync_jax.plotting.lost import draw_bars
from fedasync_jax.plotting.points import running_mean, thin
from fedasync_jax.plotting.styles import LineStyle, TimeUnit, choose_unit
from fedasync_jax.plotting.traces import group_traces, name_group


def draw_staleness_over_time(
    updates: Mapping[str, Arrays],
    lost: Mapping[str, Arrays],
    styles: Mapping[str, LineStyle],
    *,
    has_clock: bool = True,
    clock: str = "simulated",
) -> Figure:
    """Draw the staleness of the arrivals and, below it, how many tasks got lost.

    Args:
      updates: the arrivals of asynchronous methods; each distinct trace is drawn once,
        in a column of its own.
      lost: the lost tasks of methods that have any.
      styles: the looks of the methods.
      has_clock: whether times are seconds; if not, x is the update.
      clock: what they are, see ``styles.TimeUnit``.
    """
    groups = {group[0]: group for group in group_traces(updates)}
    panels = _make_panels(len(groups), with_lost=not lost.keys().isdisjoint(groups))
    for column, (method, group) in zip(panels.T, groups.items(), strict=True):
        end = float(updates[method]["arrival_time"][-1])
        unit = choose_unit(end, clock) if has_clock else None
        _draw_arrivals(column[0], updates[method], styles[method].color, unit)
        column[0].set_title(name_group(group, len(updates)), loc="left")
        if unit and method in lost:
            draw_bars(column[1], lost[method], end, unit)
        column[-1].set_xlabel(unit.label if unit else "Server updates")
        column[-1].xaxis.set_major_formatter("{x:,g}")
    panels[0, 0].set_ylabel("Staleness (versions)")
    for ax in panels[1:, 0]:
        count_upwards(ax, 3)
    _scale_staleness(panels[0, 0], [updates[method]["staleness"] for method in groups])
    add_legend(panels[0, 0].figure, most=6)
    return panels[0, 0].figure


def _make_panels(num_columns: int, *, with_lost: bool) -> np.ndarray:
    """Return axes [rows, columns] of a new figure."""
    heights = [3.0, 1.0] if with_lost else [3.0]
    size = (max(6.4, 4.2 * num_columns), 0.8 + 0.9 * sum(heights))
    fig = Figure(figsize=size, layout="constrained")
    return fig.subplots(
        len(heights),
        num_columns,
        sharex="col",
        sharey="row",
        squeeze=False,
        height_ratios=heights,
    )


def _draw_arrivals(ax: Axes, arrays: Arrays, color: str, unit: TimeUnit | None) -> None:
    """Draw a dot an arrival, at its time or, without a unit, at its number."""
    y = arrays["staleness"]
    x = arrays["arrival_time"] / unit.seconds if unit else np.arange(1, len(y) + 1)
    ax.plot(thin(x), thin(y), ".", color=color, alpha=0.4, markersize=3, mew=0)
    middles, mean = running_mean(x, y)
    ax.plot(middles, mean, color="white", linewidth=3.2)
    ax.plot(middles, mean, color=color, label="running mean")
    begin_at_zero(ax, x[-1])


def _scale_staleness(ax: Axes, staleness: Sequence[np.ndarray]) -> None:
    """Set the scale of y: logarithmic if a few stragglers are far above the mean."""
    count_upwards(ax)
    if any(values.max() > 20 * max(values.mean(), 1) for values in staleness):
        ax.set_yscale("symlog", linthresh=1)
        ax.yaxis.set_major_formatter("{x:,g}")
