"""How runs side by side go, a line now and then."""

import time
from typing import Any

from rich.console import Console

from fedasync_jax.methods import Method
from fedasync_jax.running import Diverged, Outcome
from fedasync_jax.side_by_side import Listener


class TogetherLine(Listener):
    """Prints how far the runs are, together, and how fast."""

    def __init__(self, console: Console, every: float = 15.0):
        """Print on ``console``, every so many seconds at most."""
        self._console, self._every = console, every
        self._pieces: list[dict[str, Any]] = []
        self._done: int | None = None

    def on_begin(self, methods: list[Method]) -> None:
        """Begin a group."""
        names = ", ".join(dict.fromkeys(method.name for method in methods))
        self._total = sum(method.trace.num_updates for method in methods)
        self._done = None
        self._num_runs, self._start = len(methods), time.perf_counter()
        self.print(f"{len(methods)} run{'s' * (len(methods) > 1)} together: {names}")

    def on_call(self, versions: list[int]) -> None:
        """Count what is new."""
        done, now = sum(versions), time.perf_counter()
        if self._done is None:
            self._first, self._began, self._printed = done, now, now
        self._done, self._now = done, now
        if now - self._printed >= self._every:
            self._printed = now
            self._print_speed()

    def on_end(self, outcomes: list[Outcome | Diverged]) -> None:
        """End a group."""
        if self._done is not None:
            self._print_speed()
        self._note_piece()
        for outcome in outcomes:
            if isinstance(outcome, Diverged):
                self.print(f"  {outcome}")

    def on_skip(self, line: str) -> None:
        """Print it."""
        self.print(line)

    def take_pieces(self) -> list[dict[str, Any]]:
        """Return what was done since it was last asked, a record per group.

        ``updates`` were made in ``seconds`` after the first call of the device, which
        took ``first_seconds`` with its compilation, by ``runs`` runs together.
        """
        self._note_piece()
        pieces, self._pieces = self._pieces, []
        return pieces

    def print(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _note_piece(self) -> None:
        if self._done is not None:
            piece = {
                "runs": self._num_runs,
                "updates": self._done - self._first,
                "seconds": round(self._now - self._began, 3),
                "first_seconds": round(self._began - self._start, 3),
            }
            self._pieces.append(piece)
        self._done = None

    def _print_speed(self) -> None:
        assert self._done is not None
        rate = (self._done - self._first) / max(self._now - self._began, 1e-9)
        left = (self._total - self._done) / rate / 60 if rate else float("inf")
        self.print(
            f"  {self._done:,}/{self._total:,} updates  {rate:,.3g} updates/s  "
            f"{left:,.0f} min left"
        )
