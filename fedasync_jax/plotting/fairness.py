"""How each client is served: accuracy on its own data, and who is slow."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.plotting.looks import add_legend, percent
from fedasync_jax.plotting.served import mean_by_speed, order_scores, pick_score
from fedasync_jax.plotting.styles import LineStyle


def draw_client_scores(
    scores: Mapping[str, Arrays],
    styles: Mapping[str, LineStyle],
    seconds: np.ndarray | None,
) -> Figure:
    """Draw the scores of all clients in order and, beside it, against their speed.

    The second panel has the means of tenths of the clients, from fast to slow: a line
    that falls serves the slow ones worse.

    Args:
      scores: see ``read_run.read_client_scores``, by method.
      styles: the looks of the methods.
      seconds: see ``Contents.measure_tasks``; None: there is no second panel.
    """
    columns = 1 if seconds is None else 2
    fig = Figure(figsize=(1.2 + 3.6 * columns, 3.5), layout="constrained")
    panels = fig.subplots(1, columns, sharey=columns == 2, squeeze=False)[0]
    name = pick_score(scores.values())
    for method, arrays in scores.items():
        style, values = styles[method], arrays[name]
        share, ordered = order_scores(values, higher_is_better=name == "accuracy")
        panels[0].plot(share, ordered, style.linestyle, color=style.color, label=method)
        if seconds is not None:
            panels[1].plot(*mean_by_speed(seconds, values), **style._asdict())
    panels[0].set_xlabel("Clients, from the worst served")
    panels[0].xaxis.set_major_formatter(percent)
    panels[0].set_ylabel(f"{name.capitalize()} on own data")
    if name == "accuracy":
        panels[0].yaxis.set_major_formatter(percent)
    if seconds is not None:
        _scale_speed(panels[1])
    add_legend(fig)
    return fig


def _scale_speed(ax: Axes) -> None:
    ax.set_xlabel("Seconds a task of the client (fast to slow)")
    if ax.dataLim.x0 > 0 and ax.dataLim.x1 > 5 * ax.dataLim.x0:
        ax.set_xscale("log")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
