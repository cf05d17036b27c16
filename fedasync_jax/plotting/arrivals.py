"""What happened to the arrivals: their staleness and their weights."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.plotting.looks import LineStyle, percent, scale_counts

Updates = Mapping[str, np.ndarray]

_MAX_POINTS = 2000  # more arrivals than this are thinned, so that pictures stay small


def draw_staleness(
    updates: Mapping[str, Updates], styles: Mapping[str, LineStyle]
) -> Figure:
    """Draw each distinct trace once: methods on one trace share their staleness."""
    traces: dict[bytes, list[str]] = {}
    for method, arrays in updates.items():
        key = arrays["staleness"].astype(np.int64).tobytes()
        traces.setdefault(key, []).append(method)
    groups = list(traces.values())
    staleness = [updates[methods[0]]["staleness"] for methods in groups]
    edges = _make_bins(np.concatenate(staleness))
    fig = Figure(figsize=(5.6, 3.6), layout="constrained")
    ax = fig.subplots()
    for methods, values in zip(groups, staleness, strict=True):
        label = _name_group(methods, len(updates))
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


def draw_alpha(
    updates: Mapping[str, Updates], styles: Mapping[str, LineStyle]
) -> Figure:
    """Draw the weights of the arrivals and their running means, a panel a method."""
    rows = -(-len(updates) // 3)
    columns = -(-len(updates) // rows)
    size = (max(4.2, 3.2 * columns), 0.4 + 2.6 * rows)
    fig = Figure(figsize=size, layout="constrained")
    fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = fig.axes[: len(updates)]
    for ax, (method, arrays) in zip(panels, updates.items(), strict=True):
        _draw_weights(ax, arrays, styles[method].color)
        ax.set_title(method, loc="left")
        scale_counts(ax, [])
    for ax in panels[-columns:]:
        ax.tick_params(labelbottom=True)
    for ax in fig.axes[len(updates) :]:
        ax.set_visible(False)
    _scale_weights(panels[0], [_take_applied(arrays)[1] for arrays in updates.values()])
    fig.supxlabel("Server updates", fontsize=9)
    fig.supylabel(r"Mixing weight $\alpha_t$", fontsize=9)
    return fig


def _draw_weights(ax: Axes, arrays: Updates, color: str) -> None:
    x, alpha = _take_applied(arrays)
    step = max(1, alpha.size // _MAX_POINTS)
    ax.plot(
        x[::step], alpha[::step], ".", color=color, alpha=0.3, markersize=2.5, mew=0
    )
    x, mean = _running_mean(x, alpha)
    ax.plot(x, mean, color="white", linewidth=3.2)
    ax.plot(x, mean, color=color, label="running mean")


def _scale_weights(ax: Axes, weights: Sequence[np.ndarray]) -> None:
    """Set the scale of y: logarithmic beyond a factor of 30, four decades at most."""
    values = np.concatenate(weights)
    if values.size and values.max() > 30 * values.min():
        ax.set_yscale("log")
        ax.set_ylim(max(values.min(), 1e-4 * values.max()) / 1.5, 1.5 * values.max())
    else:
        ax.set_ylim(bottom=0)


def _take_applied(arrays: Updates) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers and the weights of the arrivals that changed the model."""
    alpha = np.asarray(arrays["alpha"], float)
    kept = np.asarray(arrays["applied"], bool) & np.isfinite(alpha) & (alpha > 0)
    return np.flatnonzero(kept) + 1, alpha[kept]


def _running_mean(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means over windows of a twentieth of y, at the windows' middles."""
    width = max(1, y.size // 20)
    sums = np.concatenate([np.zeros(1), np.cumsum(y)])
    means = (sums[width:] - sums[:-width]) / width
    middles = x[(width - 1) // 2 :][: means.size]
    step = max(1, means.size // _MAX_POINTS)
    return middles[::step], means[::step]


def _make_bins(staleness: np.ndarray) -> np.ndarray:
    """Return edges around whole numbers, about 60 at most; a thin long tail is cut."""
    top = largest = int(staleness.max())
    percentile = int(np.ceil(np.quantile(staleness, 0.995)))
    if largest > 2 * percentile + 1:
        top = percentile
    width = top // 60 + 1
    return np.arange(-0.5, top + width + 0.5, width)


def _name_group(methods: Sequence[str], num_methods: int) -> str:
    if len(methods) == num_methods > 1:
        return "All asynchronous methods"
    others = len(methods) - 1
    return methods[0] + (f" and {others} more" if others else "")
