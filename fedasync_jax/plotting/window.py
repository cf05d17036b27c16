"""Which part of a timeline is shown, and in which order its clients stand."""

from collections.abc import Iterator, Sequence

import numpy as np

from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.schedule.timeline import ACTIVITIES

_NUM_TASKS = 7  # so many are seen of the median client
# A task has one bar of these, or a few if it paused.
_TASKS = [ACTIVITIES.index(name) for name in ("work", "lost")]


def choose_window(timeline: Arrays, rounds: Sequence[np.ndarray]) -> float:
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


def order_by_speed(timelines: Sequence[Arrays]) -> list[list[int]]:
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


def list_shown(timeline: Arrays, window: float) -> Iterator[tuple[str, Arrays]]:
    """Yield every activity that is seen before ``window``: its name and its bars.

    The bars are the columns ``start``, ``end`` and ``client``.
    """
    for code, name in enumerate(ACTIVITIES):
        shown = (timeline["activity"] == code) & (timeline["start"] < window)
        shown &= timeline["end"] > timeline["start"]
        if shown.any():
            yield name, {n: timeline[n][shown] for n in ("start", "end", "client")}
