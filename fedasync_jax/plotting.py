"""Pictures of a run folder: accuracy, staleness and mixing weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from fedasync_jax.run_folder import Row, read_metrics, read_updates, slugify

Updates = Mapping[str, np.ndarray]

# Okabe and Ito's colours, told apart by colour-blind readers; baselines are grey.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_BASELINE_COLORS = ("#000000", "#767676", "#A6A6A6")
_BASELINE_DASHES = ("--", ":", "-.")
_MARKERS = "osD^vP"
_AXES = {
    "gradients": "Gradients",
    "updates": "Server updates",
    "virtual_time": "Simulated time (s)",
}
_MAX_POINTS = 2000  # more arrivals than this are thinned, so that pictures stay small
_STYLE: dict[Any, Any] = {
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
      dashes: matplotlib line style; asynchronous methods are solid.
      marker: matplotlib marker.
    """

    color: str
    dashes: str
    marker: str


def draw_run(run_dir: str | Path) -> list[Path]:
    """Draw a run folder and write the pictures into its folder ``plots``.

    ``accuracy.png`` is always drawn; ``staleness.png`` and ``alpha.png`` if there is an
    asynchronous method with an ``updates.npz``.

    Args:
      run_dir: the run folder.

    Raises:
      ValueError: if the folder has no metrics, or a file in it cannot be read.

    Returns:
      Paths of the pictures, PNG at 150 dots per inch.
    """
    run_dir = Path(run_dir)
    rows = read_metrics(run_dir)
    updates = {
        method: arrays
        for method in rows
        if (arrays := read_updates(run_dir, method)) is not None
    }
    updates = {m: u for m, u in updates.items() if _is_asynchronous(m, u)}
    styles = _assign_styles(list(rows), set(updates))
    with matplotlib.rc_context(_STYLE):
        figures = {"accuracy": _draw_accuracy(rows, styles)}
        if updates:
            figures["staleness"] = _draw_staleness(updates, styles)
            figures["alpha"] = _draw_alpha(updates, styles)
        return [_save(fig, run_dir, name) for name, fig in figures.items()]


def _draw_accuracy(
    rows: Mapping[str, Sequence[Row]], styles: Mapping[str, LineStyle]
) -> Figure:
    axes = {  # sampled staleness has no clock
        field: label
        for field, label in _AXES.items()
        if any(rows[method][-1][field] for method in styles)
    }
    fig = Figure(figsize=(3.2 * len(axes), 3.5), layout="constrained")
    panels = fig.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for ax, (field, label) in zip(panels, axes.items(), strict=True):
        for method, style in styles.items():
            _draw_curve(ax, rows[method], field, method, style)
        ax.set_xlabel(label)
        _scale_counts(ax, [rows[method][-1][field] for method in styles])
    panels[0].set_ylabel("Test accuracy")
    panels[0].yaxis.set_major_formatter(_percent)
    handles, labels = panels[0].get_legend_handles_labels()
    columns = -(-len(labels) // -(-len(labels) // 4))  # rows of nearly equal length
    fig.legend(handles, labels, loc="outside lower center", ncols=columns)
    return fig


def _draw_curve(
    ax: Axes, rows: Sequence[Row], field: str, method: str, style: LineStyle
) -> None:
    x, y = (
        np.array([row[name] for row in rows], float)
        for name in (field, "test_accuracy")
    )
    ax.plot(
        x,
        y,
        color=style.color,
        linestyle=style.dashes,
        marker=style.marker,
        markevery=max(1, len(rows) // 8),
        label=method,
    )


def _draw_staleness(
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
    ax.yaxis.set_major_formatter(_percent)
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


def _draw_alpha(
    updates: Mapping[str, Updates], styles: Mapping[str, LineStyle]
) -> Figure:
    rows = -(-len(updates) // 3)
    columns = -(-len(updates) // rows)
    size = (max(4.2, 3.2 * columns), 0.4 + 2.6 * rows)
    fig = Figure(figsize=size, layout="constrained")
    fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = fig.axes[: len(updates)]
    for ax, (method, arrays) in zip(panels, updates.items(), strict=True):
        _draw_weights(ax, arrays, styles[method].color)
        ax.set_title(method, loc="left")
        _scale_counts(ax, [])
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


# ---- figures' numbers ----


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


# ---- looks ----


def _is_asynchronous(method: str, updates: Updates) -> bool:
    return slugify(method).startswith("fedasync") or bool(updates["staleness"].any())


def _assign_styles(methods: Sequence[str], stale: set[str]) -> dict[str, LineStyle]:
    """Style the methods in order; ``stale`` has those that are asynchronous."""
    styles, counts = {}, [0, 0]
    for method in methods:
        solid = method in stale or slugify(method).startswith("fedasync")
        i = counts[solid]
        counts[solid] += 1
        colors = _COLORS if solid else _BASELINE_COLORS
        dashes = "-" if solid else _BASELINE_DASHES[i % 3]
        marker = _MARKERS[i % 6] if solid else ""
        styles[method] = LineStyle(colors[i % len(colors)], dashes, marker)
    return styles


def _scale_counts(ax: Axes, ends: Sequence[float]) -> None:
    """Set the scale of x: logarithmic if some curves would end far to the left."""
    positive = [end for end in ends if end]
    if positive and max(positive) > 5 * min(positive):
        ax.set_xscale("log", nonpositive="mask")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def _scale_weights(ax: Axes, weights: Sequence[np.ndarray]) -> None:
    """Set the scale of y: logarithmic beyond a factor of 30, four decades at most."""
    values = np.concatenate(weights)
    if values.size and values.max() > 30 * values.min():
        ax.set_yscale("log")
        ax.set_ylim(max(values.min(), 1e-4 * values.max()) / 1.5, 1.5 * values.max())
    else:
        ax.set_ylim(bottom=0)


def _percent(share: float, position: float = 0) -> str:
    del position
    return f"{100 * share:.3g}%"


def _save(fig: Figure, run_dir: Path, name: str) -> Path:
    path = run_dir / "plots" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    fig.savefig(path, dpi=150)
    return path
