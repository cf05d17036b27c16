"""Packing: which tasks of several runs go into one call of the device.

A part of a wave may be trained and mixed on its own, so calls can be filled from any
runs; the run that is least far comes first, so that all end at about the same time.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fedasync_jax.schedule.trace import make_waves


class Part(NamedTuple):
    """Consecutive rows of a run, whose start versions all exist before them.

    Attributes:
      run: its number.
      begin: first row.
      end: row after the last.
    """

    run: int
    begin: int
    end: int


def pack(
    start_versions: Sequence[np.ndarray],
    max_width: int,
    begins: Sequence[int] | None = None,
    dropped: Collection[int] = (),
) -> Iterator[list[Part]]:
    """Yield the parts of every call, at most one of a run, all rows in their order.

    >>> calls = pack([np.array([0, 0, 2]), np.array([0, 1])], 3)
    >>> [[tuple(part) for part in call] for call in calls]
    [[(0, 0, 2), (1, 0, 1)], [(1, 1, 2), (0, 2, 3)]]

    Args:
      start_versions: int [T] of every run.
      max_width: rows in a call, >= 1.
      begins: first rows; default: 0.
      dropped: runs that are in no call; looked at again before every call.

    Raises:
      ValueError: if ``max_width`` < 1, or a row starts from a version that does not
        exist before it.
    """
    if max_width < 1:
        raise ValueError(f"max_width must be >= 1, got {max_width}")
    begins = [0] * len(start_versions) if begins is None else begins
    for starts, begin in zip(start_versions, begins, strict=True):
        next(make_waves(starts, 1, begin), None)  # checks them
    newest = [np.maximum.accumulate(starts) for starts in start_versions]
    place = list(begins)
    while True:
        call, room = [], max_width
        left = [
            run
            for run, end in enumerate(map(len, newest))
            if place[run] < end and run not in dropped
        ]
        for run in sorted(left, key=lambda run: (place[run], run)):
            begin = place[run]
            ready = int(np.searchsorted(newest[run], begin, side="right"))
            end = min(ready, begin + room)
            if end > begin:
                call.append(Part(run, begin, end))
                place[run], room = end, room - (end - begin)
        if not call:
            return
        yield call
