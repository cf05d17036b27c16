"""How stale the arrivals are, all in all."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.plotting.looks import LineStyle, percent


def group_traces(updates: Mapping[str, Arrays]) -> list[list[str]]:
    """Return the methods in groups that share a trace."""
    traces: dict[bytes, list[str]] = {}
    for method, arrays in updates.items():
        key = arrays["staleness"].astype(np.int64).tobytes()
        traces.setdefault(key, []).append(method)
    return list(traces.values())


def name_group(methods: Sequence[str], num_methods: int) -> str:
    """Return a name for some of all asynchronous methods."""
    if len(methods) == num_methods > 1:
        return "All asynchronous methods"
    others = len(methods) - 1
    return methods[0] + (f" and {others} more" if others else "")


def draw_staleness(
    updates: Mapping[str, Arrays], styles: Mapping[str, LineStyle]
) -> Figure:
    """Draw each distinct trace once: methods on one trace share their staleness."""
    groups = group_traces(updates)
    staleness = [updates[methods[0]]["staleness"] for methods in groups]
    edges = _make_bins(np.concatenate(staleness))
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


def _make_bins(staleness: np.ndarray) -> np.ndarray:
    """Return edges around whole numbers, about 60 at most; a thin long tail is cut."""
    top = largest = int(staleness.max())
    percentile = int(np.ceil(np.quantile(staleness, 0.995)))
    if largest > 2 * percentile + 1:
        top = percentile
    width = top // 60 + 1
    return np.arange(-0.5, top + width + 0.5, width)
