"""What a sample of the clients did from moment to moment, to be looked at.

Shapes: n stretches of time.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fedasync_jax.fleet.availability import away_windows
from fedasync_jax.fleet.devices import Fleet
from fedasync_jax.schedule.trace import Trace

ACTIVITIES = ("away", "download", "work", "upload", "lost")
_AWAY, _DOWNLOAD, _WORK, _UPLOAD, _LOST = range(len(ACTIVITIES))


class Timeline(NamedTuple):
    """Stretches of time; what they do not cover, a client is idle.

    Attributes:
      client: int32 [n].
      start: float64 [n], simulated seconds.
      end: float64 [n].
      activity: int8 [n], place in ``ACTIVITIES``; "lost" is the whole life of a task
        that did not arrive.
    """

    client: np.ndarray
    start: np.ndarray
    end: np.ndarray
    activity: np.ndarray


def make_timeline(
    trace: Trace, fleet: Fleet, clients: Sequence[int], *, until: float | None = None
) -> Timeline:
    """Return what some clients did from time 0 on.

    A task that is paused while its device is away is shown as away for that time.

    Args:
      trace: what happened.
      fleet: the devices.
      clients: who is looked at.
      until: where to stop; default: at the last arrival.
    """
    end = float(trace.arrival_time[-1]) if until is None else until
    rows = []
    for client in clients:
        away = away_windows(fleet.availability, client, 0.0, end)
        rows += [(client, *window, _AWAY) for window in away.tolist()]
        for start, stop, activity in _live(trace, client, end):
            pieces = _cut_out(start, stop, away.tolist())
            rows += [(client, *piece, activity) for piece in pieces]
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    types = ("int32", "float64", "float64", "int8")
    return Timeline(*map(np.array, columns, types))


def _live(trace: Trace, client: int, end: float) -> Iterator[tuple[float, float, int]]:
    """Yield the stretches of a client's tasks that begin before ``end``."""
    phases = ("start_time", "work_start_time", "work_end_time", "arrival_time")
    mine = trace.client == client
    times = np.stack([getattr(trace, name)[mine] for name in phases], axis=1)
    for life in np.minimum(times, end).tolist():
        for activity, (start, stop) in enumerate(itertools.pairwise(life)):
            yield start, stop, _DOWNLOAD + activity
    lost = trace.lost
    mine = (lost.client == client) & (lost.start_time < end)
    for start, stop in zip(lost.start_time[mine], lost.end_time[mine], strict=True):
        yield float(start), min(float(stop), end), _LOST


def _cut_out(
    start: float, stop: float, away: Sequence[Sequence[float]]
) -> Iterator[tuple[float, float]]:
    """Yield what is left of a stretch of time without the windows, which are sorted."""
    for leaves, returns in away:
        if returns > start and leaves < stop:
            if leaves > start:
                yield start, leaves
            start = returns
    if stop > start:
        yield start, stop
