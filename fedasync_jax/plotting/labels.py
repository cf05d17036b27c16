"""Who has what: the labels of the samples of every client."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedasync_jax.plotting.looks import count_upwards, draw_boxes, percent

# Tol's muted colours, told apart by colour-blind readers; hatched from the eleventh on.
_COLORS = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
    "#BBBBBB",
)
_WIDTH = 0.85  # of a bar
_MAX_CLIENTS = 50
_MAX_COLORED = 2 * len(_COLORS)


def draw_labels(label_counts: np.ndarray) -> Figure:
    """Draw the labels of up to 50 clients, by the label that they have most of.

    Bars of samples for up to 20 labels, a map of shares for more. Where there are more
    clients, every n-th in this order is drawn.

    Args:
      label_counts: int [C, K], samples of each client by label.
    """
    order = order_clients(label_counts)
    clients = order[:: -(-len(order) // _MAX_CLIENTS)]
    fig = Figure(figsize=(8.0, 3.8), layout="constrained")
    ax = fig.subplots()
    if label_counts.shape[1] > _MAX_COLORED:
        _draw_shares(ax, label_counts[clients])
    else:
        _draw_bars(ax, label_counts[clients])
    if len(clients) < len(order):
        ax.set_title(f"{len(clients)} of {len(order):,} clients", loc="left")
    ax.set_xticks(range(len(clients)), map(str, clients), rotation=90, fontsize=6)
    ax.set_xlim(-0.5, len(clients) - 0.5)
    ax.set_xlabel("Client")
    ax.grid(axis="x", visible=False)
    return fig


def order_clients(label_counts: np.ndarray) -> np.ndarray:
    """Return the clients by their commonest label and, of one label, by size."""
    return np.lexsort((-label_counts.sum(axis=1), label_counts.argmax(axis=1)))


def _draw_bars(ax: Axes, label_counts: np.ndarray) -> None:
    """Draw a stacked bar of samples for every client."""
    x = np.arange(len(label_counts))[:, None] + [-_WIDTH / 2, _WIDTH / 2]
    above = np.cumsum(label_counts, axis=1)
    for label, counts in enumerate(label_counts.T):
        ends = above[:, label]
        draw_boxes(
            ax,
            x,
            np.stack([ends - counts, ends], axis=1),
            facecolor=_COLORS[label % len(_COLORS)],
            edgecolor="white",
            linewidth=0,
            hatch="" if label < len(_COLORS) else "/////",
            label=str(label),
        )
    ax.set_ylabel("Samples")
    count_upwards(ax)
    columns = -(-label_counts.shape[1] // len(_COLORS))
    legend = {"ncols": columns, "reverse": columns == 1}
    ax.figure.legend(loc="outside right upper", title="Label", **legend)


def _draw_shares(ax: Axes, label_counts: np.ndarray) -> None:
    """Draw a map of the shares of the labels in every client's samples."""
    totals = np.maximum(label_counts.sum(axis=1, keepdims=True), 1)
    image = ax.imshow(
        (label_counts / totals).T,
        cmap="Blues",
        aspect="auto",
        interpolation="nearest",
        vmin=0,
        origin="lower",
    )
    ax.figure.colorbar(
        image, ax=ax, label="Share of the client's samples", format=percent
    )
    ax.set_ylabel("Label")
    ax.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    ax.grid(visible=False)
