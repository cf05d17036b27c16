"""What clients do: bars of every task, of being away, and nothing while they wait."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.plotting.looks import (
    BLUE,
    ORANGE,
    RED,
    SKY,
    add_legend,
    begin_at_zero,
    choose_unit,
)
from fedasync_jax.schedule.timeline import ACTIVITIES

_NUM_TASKS = 7  # so many are seen of the median client
_MAX_ROUNDS = 50  # more lines than this would hide the bars
# A task has one bar of these, or a few if it paused.
_TASKS = [ACTIVITIES.index(name) for name in ("work", "lost")]
_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "away": {"facecolor": "#EDEDED", "edgecolor": "#C4C4C4", "hatch": "////"},
    "download": {"facecolor": SKY},
    "work": {"facecolor": BLUE},
    "upload": {"facecolor": ORANGE},
    "lost": {"facecolor": "white", "edgecolor": RED, "hatch": "xxxx"},
}


def draw_timeline(
    timelines: Mapping[str, Arrays], rounds: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """Draw what the clients do from the start on, a panel a method.

    A panel has the clients of its timeline, the fastest at the top. All panels end at
    the same time: when the median client has done seven tasks of the first method, or
    two rounds are over if that is not three times as long and is known of the first
    method.

    Args:
      timelines: see ``read_run.read_timeline``, by method.
      rounds: when rounds begin, simulated seconds, of the methods that have them.
    """
    rounds = rounds or {}
    window = _choose_window(next(iter(timelines.values())), list(rounds.values()))
    unit = choose_unit(window)
    clients = _order_clients(list(timelines.values()))
    panels = _make_panels(clients)
    for ax, own, method in zip(panels, clients, timelines, strict=True):
        _draw_bars(ax, timelines[method], own, window, unit.seconds)
        _draw_rounds(ax, rounds.get(method, np.zeros(0)), window, unit.seconds)
        ax.set_title(method, loc="left")
    panels[0].barh(0, 0, facecolor="white", edgecolor="#C4C4C4", label="idle")
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


def _choose_window(timeline: Arrays, rounds: Sequence[np.ndarray]) -> float:
    """Return when the median client has done seven tasks, or two rounds are over."""
    is_task = np.isin(timeline["activity"], _TASKS)
    client, end = timeline["client"][is_task], timeline["end"][is_task]
    last = end.max() if end.size else timeline["end"].max()
    ends = [np.sort(end[client == c]) for c in np.unique(timeline["client"])]
    sevenths = [e[_NUM_TASKS - 1] if len(e) >= _NUM_TASKS else last for e in ends]
    window = np.median(sevenths)
    longest = min(3 * window, timeline["end"].max())
    begins = [1.1 * begin for some in rounds for begin in some[:3]]
    return float(max([window, *(begin for begin in begins if begin < longest)]))


def _order_clients(timelines: Sequence[Arrays]) -> list[list[int]]:
    """Return the clients of each timeline by their median time of work in all of them.

    Those that never work are last.
    """
    client, start, end, activity = (
        np.concatenate([timeline[name] for timeline in timelines])
        for name in ("client", "start", "end", "activity")
    )
    works = activity == ACTIVITIES.index("work")
    seconds = end - start

    def duration(one: int) -> float:
        own = seconds[works & (client == one)]
        return float(np.median(own)) if own.size else np.inf

    place = {one: duration(one) for one in np.unique(client).tolist()}
    return [
        sorted(np.unique(timeline["client"]).tolist(), key=place.__getitem__)
        for timeline in timelines
    ]


def _draw_bars(
    ax: Axes, timeline: Arrays, clients: Sequence[int], window: float, unit: float
) -> None:
    row_of = {client: row for row, client in enumerate(clients)}
    for code, name in enumerate(ACTIVITIES):
        shown = (timeline["activity"] == code) & (timeline["start"] < window)
        shown &= timeline["end"] > timeline["start"]
        if not shown.any():
            continue
        start = np.maximum(timeline["start"][shown], 0.0)
        end = np.minimum(timeline["end"][shown], window)
        rows = [row_of[client] for client in timeline["client"][shown].tolist()]
        ax.barh(
            rows,
            (end - start) / unit,
            left=start / unit,
            height=0.8,
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
