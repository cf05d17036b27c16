"""Runs side by side, as scripts run them: told in lines, stopped and gone on with."""

import json
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from fedasync_jax.cli.flags import fail
from fedasync_jax.cli.signals import note_signals
from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.callbacks import Callback, Outcome
from fedasync_jax.jobs.machine import describe_hardware, describe_origin
from fedasync_jax.jobs.runner import Stopped
from fedasync_jax.jobs.sweep import Point, is_finished, run_points
from fedasync_jax.storage.ownership import check_owned, has_runs, write_owned

TIME_IS_UP = 3  # exit code


def run_all_points(
    points: Sequence[Point],
    out: Path,
    console: Console,
    *,
    together: int | None = None,
    max_minutes: float | None = None,
) -> list[str]:
    """Run what is not finished; end the process when it is to stop, or at an error.

    What the pieces of the work took is put down in ``pieces.jsonl``.

    Args:
      points: see ``sweep.run_points``.
      out: folder of all.
      console: to print on.
      together: runs in one program at most; default: 8 on a CPU, else 64.
      max_minutes: after which all runs stop, with checkpoints; exit code 3.

    Returns:
      Why some runs ended early, a line each.
    """
    deadline = time.monotonic() + 60 * (max_minutes or math.inf)
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    asked = note_signals("call")
    devices = jax.devices()
    try:
        left = sum(not is_finished(point) for point in points)
    except (OSError, ValueError) as error:
        fail(error)
    console.print(
        f"{len(points)} runs below {out}, {left} to run; "
        f"{len(devices)} {devices[0].platform} device(s)",
        highlight=False,
        soft_wrap=True,
    )
    lines, diverged = _Lines(console), []
    is_ours = has_runs(out)
    try:
        check_owned(out / "pieces.jsonl", is_ours=is_ours)
        try:
            for _, results in run_points(
                points,
                describe_origin(),
                together=together or (8 if devices[0].platform == "cpu" else 64),
                callbacks=[lines],
                should_stop=lambda: bool(asked) or time.monotonic() > deadline,
            ):
                diverged += results.diverged
                _note_pieces(out, lines, is_ours=is_ours)
        finally:
            _note_pieces(out, lines, is_ours=is_ours)
        if asked:
            raise Stopped("stopped after the last run")
    except Stopped as stop:
        console.print(f"{stop}; repeat the command to continue", highlight=False)
        sys.exit(128 + asked[0] if asked else TIME_IS_UP)
    except BrokenPipeError:
        raise  # its reader has gone: nobody is to be told
    except (ValueError, OSError, ModuleNotFoundError) as error:
        fail(error)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return diverged


def _note_pieces(out: Path, lines: "_Lines", *, is_ours: bool) -> None:
    """Put down how long it took, and on what."""
    path, pieces = out / "pieces.jsonl", lines.take_pieces()
    if pieces:
        records = [{**piece, "hardware": describe_hardware()} for piece in pieces]
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        text = before + "".join(json.dumps(record) + "\n" for record in records)
        write_owned(path, text.encode(), is_ours=is_ours)


class _Lines(Callback):
    """Prints how far the runs are, together, and how fast."""

    def __init__(self, console: Console, every: float = 15.0):
        """Print on ``console``, every so many seconds at most."""
        self._console, self._every = console, every
        self._pieces: list[dict[str, Any]] = []
        self._done: int | None = None
        self._going: list[Method] = []  # those that run together
        self._num_left = 0

    def on_start(self, method: Method) -> None:
        """Note who runs together."""
        if not self._num_left:
            self._note_piece()
            self._going, self._start = [], time.perf_counter()
        self._going.append(method)
        self._num_left += 1

    def on_wave(self, versions: Sequence[int]) -> None:
        """Count what is new."""
        done, now = sum(versions), time.perf_counter()
        if self._done is None:
            self._begin_piece(done, now)
        self._done, self._now = done, now
        if now - self._printed >= self._every:
            self._printed = now
            self._print_speed(done)

    def on_end(self, outcome: Outcome) -> None:
        """End a group when all have ended."""
        self._end_one()

    def on_stop(self, method: Method, reason: str) -> None:
        """Print why, and end a group when all have ended."""
        self._end_one()
        self._print(f"  {reason}")

    def _begin_piece(self, done: int, now: float) -> None:
        count = len(self._going)
        names = ", ".join(dict.fromkeys(method.name for method in self._going))
        self._print(f"{count} run{'s' * (count > 1)} together: {names}")
        self._total = sum(method.trace.num_updates for method in self._going)
        self._num_runs = count
        self._first, self._began, self._printed = done, now, now

    def _end_one(self) -> None:
        if self._num_left == len(self._going) and self._done is not None:
            self._print_speed(self._done)
        self._num_left -= 1

    def on_note(self, line: str) -> None:
        """Print it."""
        self._print(line)

    def take_pieces(self) -> list[dict[str, Any]]:
        """Return what was done since it was last asked, a record per group.

        ``updates`` were made in ``seconds`` after the first call of the device, which
        took ``first_seconds`` with its compilation, by ``runs`` runs together.
        """
        self._note_piece()
        pieces, self._pieces = self._pieces, []
        return pieces

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

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _print_speed(self, done: int) -> None:
        rate = (done - self._first) / max(self._now - self._began, 1e-9)
        left = (self._total - done) / rate / 60 if rate else math.inf
        self._print(
            f"  {done:,}/{self._total:,} updates  {rate:,.3g} updates/s  "
            f"{left:,.0f} min left"
        )
