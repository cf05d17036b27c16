"""Wall-clock speeds of candidates that take turns."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Candidate(NamedTuple):
    """Something whose speed is asked for.

    Attributes:
      name: for people.
      num_updates: client updates that one call does.
      run: does them and waits for them; what it returns is for tests.
    """

    name: str
    num_updates: int
    run: Callable[[], Any]


class Speed(NamedTuple):
    """Client updates per second in the median, the slowest and the fastest call."""

    median: float
    slowest: float
    fastest: float


def time_call(call: Callable[[], Any]) -> float:
    """Return the wall-clock seconds of a call, which must wait for its own results."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def time_in_turns(
    calls: Sequence[Callable[[], Any]], repeats: int
) -> list[list[float]]:
    """Return the seconds of every call, timed A B A B ..."""
    seconds = [[time_call(call) for call in calls] for _ in range(repeats)]
    return [list(column) for column in zip(*seconds, strict=True)]


def measure_speeds(candidates: Sequence[Candidate], repeats: int) -> list[Speed]:
    """Return the speed of every candidate, all of them called in turns."""
    columns = time_in_turns([candidate.run for candidate in candidates], repeats)
    return [
        Speed(*(c.num_updates / s for s in (statistics.median(t), max(t), min(t))))
        for c, t in zip(candidates, columns, strict=True)
    ]
