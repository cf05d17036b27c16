"""What the work of runs side by side took: a record for each group of them."""

import time
from collections.abc import Sequence
from typing import Any

from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.callbacks import Callback, Outcome


class Pieces(Callback):
    """Counts the updates of runs together, and the seconds that they take.

    Attributes:
      going: methods that run together.
      done: versions that they have made, summed; None: no call has come back yet.
    """

    def __init__(self):
        """Begin."""
        self._pieces: list[dict[str, Any]] = []
        self.done: int | None = None
        self.going: list[Method] = []
        self._num_left = 0

    def on_start(self, method: Method) -> None:
        """Note who runs together."""
        if not self._num_left:
            self._note_piece()
            self.going, self._start = [], time.perf_counter()
        self.going.append(method)
        self._num_left += 1

    def on_wave(self, versions: Sequence[int]) -> None:
        """Count what is new."""
        done, now = sum(versions), time.perf_counter()
        if self.done is None:
            self._num_runs, self._first, self._began = len(self.going), done, now
            self.on_first_wave()
        self.done, self._now = done, now

    def on_first_wave(self) -> None:
        """A group is compiled and has made its first call; override what you need."""

    def on_end(self, outcome: Outcome) -> None:
        """End a group when all have ended."""
        self._end_one()

    def on_stop(self, method: Method, reason: str) -> None:
        """End a group when all have ended."""
        self._end_one()

    def on_group_end(self) -> None:
        """The first of a group has ended; override what you need."""

    def _end_one(self) -> None:
        if self._num_left == len(self.going) and self.done is not None:
            self.on_group_end()
        self._num_left -= 1

    @property
    def rate(self) -> float:
        """Updates a second since the first call of the group."""
        done = 0 if self.done is None else self.done - self._first
        return done / max(self._now - self._began, 1e-9)

    def take_pieces(self) -> list[dict[str, Any]]:
        """Return what was done since it was last asked, a record per group.

        ``updates`` were made in ``seconds`` after the first call of the device, which
        took ``first_seconds`` with its compilation, by ``runs`` runs together.
        """
        self._note_piece()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _note_piece(self) -> None:
        if self.done is not None:
            piece = {
                "runs": self._num_runs,
                "updates": self.done - self._first,
                "seconds": round(self._now - self._began, 3),
                "first_seconds": round(self._began - self._start, 3),
            }
            self._pieces.append(piece)
        self.done = None
