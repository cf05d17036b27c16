"""How runs side by side go, a line now and then."""

import time

from rich.console import Console

from fedasync_jax.methods import Method
from fedasync_jax.running import Diverged, Outcome
from fedasync_jax.side_by_side import Listener


class TogetherLine(Listener):
    """Prints how far the runs are, together, and how fast.

    Attributes:
      updates: made in this process by all runs.
      seconds: that it took, without the first call of every group, which compiles.
      num_runs: of the group that was the largest.
    """

    def __init__(self, console: Console, every: float = 15.0):
        """Print on ``console``, every so many seconds at most."""
        self._console, self._every = console, every
        self.updates, self.seconds, self.num_runs = 0, 0.0, 0

    def on_begin(self, methods: list[Method]) -> None:
        """Begin a group."""
        names = ", ".join(dict.fromkeys(method.name for method in methods))
        self._total = sum(method.trace.num_updates for method in methods)
        self._done: int | None = None
        self.num_runs = max(self.num_runs, len(methods))
        self.print(f"{len(methods)} run{'s' * (len(methods) > 1)} together: {names}")

    def on_call(self, versions: list[int]) -> None:
        """Count what is new."""
        done, now = sum(versions), time.perf_counter()
        if self._done is None:
            self._first, self._began, self._printed = done, now, now
        else:
            self.updates += done - self._done
            self.seconds += now - self._now
        self._done, self._now = done, now
        if now - self._printed >= self._every:
            self._printed = now
            self._print_speed()

    def on_end(self, outcomes: list[Outcome | Diverged]) -> None:
        """End a group."""
        if self._done is not None:
            self._print_speed()
        for outcome in outcomes:
            if isinstance(outcome, Diverged):
                self.print(f"  {outcome}")

    def on_skip(self, line: str) -> None:
        """Print it."""
        self.print(line)

    def print(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _print_speed(self) -> None:
        assert self._done is not None
        rate = (self._done - self._first) / max(self._now - self._began, 1e-9)
        left = (self._total - self._done) / rate / 60 if rate else float("inf")
        self.print(
            f"  {self._done:,}/{self._total:,} updates  {rate:,.3g} updates/s  "
            f"{left:,.0f} min left"
        )
