"""Packing: which tasks of several runs form a wave together.

A part of a run's wave may be trained and mixed on its own, so waves can be filled from
any runs; the run that is least far comes first, so that all end at about the same time.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fedasync_jax.schedule.trace import find_ends


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
    stops: Sequence[Sequence[int]] | None = None,
    dropped: Collection[int] = (),
) -> Iterator[list[Part]]:
    """Yield the parts of every wave, at most one of a run, all rows in their order.

    >>> waves = pack([np.array([0, 0, 2]), np.array([0, 1])], 3)
    >>> [[tuple(part) for part in wave] for wave in waves]
    [[(0, 0, 2), (1, 0, 1)], [(1, 1, 2), (0, 2, 3)]]

    Args:
      start_versions: int [T] of every run.
      max_width: rows in a wave, >= 1.
      begins: first rows; default: 0.
      stops: versions of every run that must be the last of a wave, rising.
      dropped: runs that are in no wave.

    Raises:
      ValueError: if ``max_width`` < 1, or a row starts from a version that does not
        exist before it.
    """
    if max_width < 1:
        raise ValueError(f"max_width must be >= 1, got {max_width}")
    begins = [0] * len(start_versions) if begins is None else begins
    stops = [()] * len(start_versions) if stops is None else stops
    ready = [
        find_ends(*pair).tolist() for pair in zip(start_versions, stops, strict=True)
    ]
    place = list(begins)
    while True:
        wave, room = [], max_width
        left = [
            run
            for run, end in enumerate(map(len, ready))
            if place[run] < end and run not in dropped
        ]
        for run in sorted(left, key=lambda run: (place[run], run)):
            begin = place[run]
            end = min(ready[run][begin], begin + room)
            if end > begin:
                wave.append(Part(run, begin, end))
                place[run], room = end, room - (end - begin)
        if not wave:
            return
        yield wave
