"""What clients do: bars of every task, of being away, and nothing while they wait."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.plotting.looks import add_legend, begin_at_zero, draw_boxes
from fedasync_jax.plotting.styles import BLUE, ORANGE, RED, SKY, choose_unit
from fedasync_jax.plotting.window import choose_window, list_shown, order_by_speed

_HEIGHT = 0.8  # of a bar
_MAX_ROUNDS = 50  # more lines than this would hide the bars
_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "away": {"facecolor": "#EDEDED", "edgecolor": "#C4C4C4", "hatch": "////"},
    "download": {"facecolor": SKY},
    "work": {"facecolor": BLUE},
    "upload": {"facecolor": ORANGE},
    "lost": {"facecolor": "white", "edgecolor": RED, "hatch": "xxxx"},
}


def draw_timeline(
    timelines: Mapping[str, Arrays],
    rounds: Mapping[str, np.ndarray] | None = None,
    clock: str = "simulated",
) -> Figure:
    """Draw what the clients do from the start on, a panel a method.

    A panel has the clients of its timeline, the fastest at the top. All panels end at
    the same time: when the median client has done seven tasks of the first method, or
    two rounds are over if that is not three times as long and is known of the first
    method.

    Args:
      timelines: see ``read_run.read_timeline``, by method.
      rounds: when rounds begin, seconds, of the methods that have them.
      clock: what these are, see ``styles.TimeUnit``.
    """
    rounds = rounds or {}
    window = choose_window(next(iter(timelines.values())), list(rounds.values()))
    unit = choose_unit(window, clock)
    clients = order_by_speed(list(timelines.values()))
    panels = _make_panels(clients)
    for ax, own, method in zip(panels, clients, timelines, strict=True):
        _draw_bars(ax, timelines[method], own, window, unit.seconds)
        _draw_rounds(ax, rounds.get(method, np.zeros(0)), window, unit.seconds)
        ax.set_title(method, loc="left")
    none, idle = np.zeros((0, 2)), {"facecolor": "white", "edgecolor": "#C4C4C4"}
    draw_boxes(panels[0], none, none, label="idle", **idle)
    begin_at_zero(panels[0], window / unit.seconds)
    panels[-1].set_xlabel(unit.label)
    fig = panels[0].figure
    add_legend(fig, most=7)
    return fig


def _make_panels(clients: Sequence[Sequence[int]]) -> np.ndarray:
    """Return axes one below the other, with a row for each of their clients."""
    heights = [0.4 + 0.11 * len(own) for own in clients]
    fig = Figure(figsize=(9.0, 1.0 + sum(heights)), layout="constrained")
    shape: dict[str, Any] = {"sharex": True, "squeeze": False, "height_ratios": heights}
    panels = fig.subplots(len(clients), 1, **shape)[:, 0]
    for ax, own in zip(panels, clients, strict=True):
        ax.set_ylabel("Client")
        ax.set_ylim(len(own) - 0.5, -0.5)
        ax.set_yticks(range(len(own)), map(str, own))
        ax.grid(axis="x", visible=False)
        ax.tick_params(axis="y", labelsize=6, length=2)
    return panels


def _draw_bars(
    ax: Axes, timeline: Arrays, clients: Sequence[int], window: float, unit: float
) -> None:
    row_of = {client: row for row, client in enumerate(clients)}
    for name, bars in list_shown(timeline, window):
        start = np.maximum(bars["start"], 0.0)
        end = np.minimum(bars["end"], window)
        rows = np.array([row_of[client] for client in bars["client"].tolist()], float)
        draw_boxes(
            ax,
            np.stack([start, end], axis=1) / unit,
            rows[:, None] + [-_HEIGHT / 2, _HEIGHT / 2],
            linewidth=0.6 if "edgecolor" in _LOOKS[name] else 0,
            label=name,
            **_LOOKS[name],
        )


def _draw_rounds(ax: Axes, begins: np.ndarray, window: float, unit: float) -> None:
    shown = begins[(begins > 0) & (begins < window)] / unit
    if 0 < len(shown) <= _MAX_ROUNDS:
        ax.vlines(
            shown,
            0,
            1,
            colors="#555555",
            linewidth=0.6,
            transform=ax.get_xaxis_transform(),
            label="round begins",
        )
