"""One line that says how a method goes: moving on a terminal, now and then in a log."""

import collections
import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.callbacks import Callback, Outcome
from fedasync_jax.jobs.scores import describe_score

_WINDOW = 10.0  # seconds over which updates/s is taken
_LOG_EVERY = 10.0  # seconds between lines of a log


class ProgressLine(Callback):
    """Shows the newest evaluation, the speed and the time that is left.

    On a terminal it is one moving line per method, and what does not fit its width is
    left out, the least important first. Elsewhere, as in a log file, a line is printed
    every ten seconds at most, and the last one always.
    """

    def __init__(self, console: Console):
        """Show on ``console``; to be used as a context."""
        self._console = console
        spinner = SpinnerColumn(finished_text=" ")
        line = TextColumn("{task.fields[line]}", markup=False)
        self._progress = Progress(spinner, line, console=console)

    def __enter__(self) -> "ProgressLine":
        """Stand ready."""
        return self

    def __exit__(self, *error: object) -> None:
        """Stand still."""
        if self._console.is_terminal:
            self._progress.stop()

    def print(self, line: str) -> None:
        """Print a line above."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def on_start(self, method: Method) -> None:
        """Begin a line."""
        self._recent: collections.deque[tuple[int, float]] = collections.deque()
        self._num_new = 0  # lines that are not told again; those say nothing of speed
        self._printed, self._last_line = time.perf_counter(), ""
        self._total = method.trace.num_updates
        self._is_async = method.is_async
        if self._console.is_terminal:
            self._progress.start()
            line = f"{method.name:<24}  compiling"
            self._task = self._progress.add_task("", total=self._total, line=line)

    def on_metrics(self, method: Method, row: dict[str, Any], *, again: bool) -> None:
        """Show a line of metrics."""
        now = time.perf_counter()
        if self._num_new < 2:  # nor do those before the programs were compiled
            self._recent.clear()
        self._num_new += not again
        self._recent.append((row["version"], now))
        while now - self._recent[0][1] > _WINDOW and len(self._recent) > 4:
            self._recent.popleft()
        parts = self._describe(row)
        if self._console.is_terminal:
            line = fit(f"{method.name:<24}", parts, self._console.width - 2)
            self._progress.update(self._task, completed=row["version"], line=line)
            return
        self._last_line = "  ".join([method.name, *(text for _, text in parts)])
        if now - self._printed >= _LOG_EVERY:
            self._print_last()

    def on_note(self, line: str) -> None:
        """Print it."""
        self.print(line)

    def on_end(self, outcome: Outcome) -> None:
        """Leave the last line."""
        self._print_last()

    def on_stop(self, method: Method, reason: str) -> None:
        """Leave the last line."""
        self._print_last()

    def _print_last(self) -> None:
        if self._last_line:
            self.print(self._last_line)
        self._printed, self._last_line = time.perf_counter(), ""

    def _describe(self, row: dict[str, Any]) -> list[tuple[int, str]]:
        """Return the parts of the line, each with its rank: 0 is never left out."""
        version = row["version"]
        (first, then), (last, now) = self._recent[0], self._recent[-1]
        rate = (last - first) / (now - then) if now > then else 0.0
        parts = [(0, f"{version:,}/{self._total:,}"), (0, describe_score(row))]
        if row["virtual_time"] is not None:
            parts.append((4, f"t {row['virtual_time']:,.0f} s"))
        if self._is_async and row["mean_staleness"] is not None:
            parts.append((3, f"d {row['mean_staleness']:.1f}"))
        if row["updates"] is not None:
            parts.append((5, f"mixed {version - row['rejected']:,}"))
        for what in ("rejected", "lost"):
            if row[what]:
                parts.append((2, f"{what} {row[what]:,}"))
        if rate and version < self._total:
            if row["updates"] is not None:
                parts.append((3, f"{_format_rate(rate)}/s"))
            parts.append((1, f"{_format_time((self._total - version) / rate)} left"))
        return parts


def fit(name: str, parts: list[tuple[int, str]], width: int) -> str:
    """Return name and parts in one line that is ``width`` long at most, if it can be.

    >>> fit("SGD", [(0, "4/9"), (2, "d 1"), (1, "3:00 left")], 19)
    'SGD  4/9  3:00 left'
    """
    parts = list(parts)
    while True:
        line = "  ".join([name, *(text for _, text in parts)])
        worst = max(rank for rank, _ in parts)
        if len(line) <= width or worst == 0:
            return line
        parts.remove(next(part for part in reversed(parts) if part[0] == worst))


def _format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _format_time(seconds: float) -> str:
    """Return minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
