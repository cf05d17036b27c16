"""The mixing weights of the arrivals."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.plotting.looks import columns_of, scale_counts
from fedasync_jax.plotting.points import running_mean, thin
from fedasync_jax.plotting.styles import LineStyle


def draw_alpha(
    updates: Mapping[str, Arrays], styles: Mapping[str, LineStyle]
) -> Figure:
    """Draw the weights of the arrivals and their running means, a panel a method."""
    columns = columns_of(len(updates), most=3)
    rows = -(-len(updates) // columns)
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


def _draw_weights(ax: Axes, arrays: Arrays, color: str) -> None:
    x, alpha = _take_applied(arrays)
    ax.plot(thin(x), thin(alpha), ".", color=color, alpha=0.3, markersize=2.5, mew=0)
    x, mean = running_mean(x, alpha)
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


def _take_applied(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers and the weights of the arrivals that changed the model."""
    alpha = np.asarray(arrays["alpha"], float)
    kept = np.asarray(arrays["applied"], bool) & np.isfinite(alpha) & (alpha > 0)
    return np.flatnonzero(kept) + 1, alpha[kept]
