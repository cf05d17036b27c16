"""Who takes part: arrivals of every client against the data that it has."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedasync_jax.plotting.looks import count_upwards
from fedasync_jax.plotting.points import jitter, mean_by_size
from fedasync_jax.plotting.styles import BLUE, RED

_MAX_DOTS = 20_000  # more clients than this are counted, not drawn one by one


def draw_participation(
    num_samples: np.ndarray, arrivals: Mapping[str, np.ndarray]
) -> Figure:
    """Draw how often the clients arrived, a dot a client, a panel a method.

    A line goes through the means of clients of about one size. Dots of small whole
    numbers are spread a little.

    Args:
      num_samples: int [C].
      arrivals: int [C], arrivals of every client, by method.
    """
    fig = Figure(figsize=(1.0 + 3.6 * len(arrivals), 3.4), layout="constrained")
    panels = fig.subplots(1, len(arrivals), sharex=True, sharey=True, squeeze=False)[0]
    if num_samples.min() > 0 and num_samples.max() > 10 * num_samples.min():
        panels[0].set_xscale("log")
    else:
        panels[0].xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    panels[0].xaxis.set_major_formatter("{x:,g}")
    for ax, (method, counts) in zip(panels, arrivals.items(), strict=True):
        if len(counts) > _MAX_DOTS:
            _draw_density(ax, num_samples, counts)
        else:
            x, y = jitter(num_samples, 0), jitter(counts, 1)
            ax.plot(x, y, ".", color=BLUE, alpha=0.5, markersize=5, mew=0)
        ax.plot(*mean_by_size(num_samples, counts), "o-", color=RED, label="mean")
        ax.set_title(method, loc="left")
    panels[0].set_ylabel("Arrivals per client")
    count_upwards(panels[0])
    # Room for the dots of clients that never arrived.
    panels[0].set_ylim(bottom=min(-0.5, -0.03 * panels[0].get_ylim()[1]))
    panels[0].legend()
    fig.supxlabel("Samples of the client", fontsize=9)
    return fig


def _draw_density(ax: Axes, num_samples: np.ndarray, counts: np.ndarray) -> None:
    """Draw how many clients there are in each cell of a grid."""
    low, high = num_samples.min(), num_samples.max()
    make_edges = np.geomspace if ax.get_xscale() == "log" else np.linspace
    step = -(-(counts.max() + 1) // 60)
    cells = ax.hist2d(
        num_samples,
        counts,
        bins=[
            make_edges(low - 0.5, high + 0.5, 61),
            np.arange(-0.5, counts.max() + step + 0.5, step),
        ],
        norm=LogNorm(),
        cmap="Blues",
    )[3]
    ax.figure.colorbar(cells, ax=ax, label="Clients")
