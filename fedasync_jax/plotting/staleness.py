"""How stale the arrivals are, all in all."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.plotting.looks import percent
from fedasync_jax.plotting.styles import LineStyle
from fedasync_jax.plotting.traces import group_traces, make_staleness_bins, name_group


def draw_staleness(
    updates: Mapping[str, Arrays], styles: Mapping[str, LineStyle]
) -> Figure:
    """Draw each distinct trace once: methods on one trace share their staleness."""
    groups = group_traces(updates)
    staleness = [updates[methods[0]]["staleness"] for methods in groups]
    edges = make_staleness_bins(np.concatenate(staleness))
    fig = Figure(figsize=(5.6, 3.6), layout="constrained")
    ax = fig.subplots()
    for methods, values in zip(groups, staleness, strict=True):
        label = name_group(methods, len(updates))
        _draw_histogram(ax, values, edges, label, styles[methods[0]].color)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_xlabel("Staleness (versions)")
    ax.set_ylabel("Share of updates")
    ax.yaxis.set_major_formatter(percent)
    ax.grid(axis="x", visible=False)
    fig.legend(loc="outside lower center", ncols=1)
    return fig


def _draw_histogram(
    ax: Axes, values: np.ndarray, edges: np.ndarray, label: str, color: str
) -> None:
    mean, largest = values.mean(), values.max()
    ax.hist(
        values,
        bins=list(edges),
        weights=np.full(values.shape, 1 / values.size),
        histtype="stepfilled",
        facecolor=(color, 0.25),
        edgecolor=color,
        linewidth=1.2,
        label=f"{label}: mean {mean:.3g} (dashed), largest {largest:,}",
    )
    ax.axvline(mean, color=color, linestyle="--", linewidth=1.2)
