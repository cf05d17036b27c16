"""Runs side by side, as scripts run them: told in lines, stopped and gone on with."""

import contextlib
import json
import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from fedasync_jax.cli.distributed import count_processes
from fedasync_jax.cli.flags import fail
from fedasync_jax.cli.signals import note_signals
from fedasync_jax.engine.processes import find_processes
from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.machine import describe_hardware, describe_origin
from fedasync_jax.jobs.pieces import Pieces
from fedasync_jax.jobs.runner import Stopped
from fedasync_jax.jobs.sweep import Point, list_unfinished, run_points
from fedasync_jax.storage.ownership import check_owned, has_runs, write_owned

TIME_IS_UP = 3  # exit code


def run_all_points(
    points: Sequence[Point],
    out: Path,
    console: Console,
    *,
    together: int | None = None,
    deadline: float = math.inf,
) -> list[str]:
    """Run what is not finished; end the process when it is to stop, or at an error.

    What the pieces of the work took is put down in ``pieces.jsonl``.

    Args:
      points: see ``sweep.run_points``.
      out: folder of all.
      console: to print on.
      together: runs in one program at most; default: 8 on a CPU, else 64.
      deadline: when all runs stop, with checkpoints and exit code 3; see
        ``run_flags.find_deadline``.

    Returns:
      Why some runs ended early, a line each.
    """
    lines, diverged = _Lines(console), []
    with ending_in_a_line(console) as asked:
        devices = jax.devices()
        left = len(list_unfinished(points))
        console.print(
            f"{len(points)} runs below {out}, {left} to run; "
            f"{len(devices)} {devices[0].platform} device(s){count_processes()}",
            highlight=False,
            soft_wrap=True,
        )
        is_ours = has_runs(out)
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
                note_pieces(out, _take_pieces(lines), is_ours=is_ours)
        finally:
            note_pieces(out, _take_pieces(lines), is_ours=is_ours)
    return diverged


@contextlib.contextmanager
def ending_in_a_line(console: Console) -> Iterator[list[int]]:
    """End the process in a line where runs stop, or at an error.

    Args:
      console: to print on.

    Yields:
      A list that the first SIGINT or SIGTERM is put into.
    """
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    asked = note_signals("call")
    try:
        yield asked
        if find_processes().agree_to_stop(bool(asked)):
            raise Stopped("stopped after the last run")
    except Stopped as stop:
        console.print(f"{stop}; repeat the command to continue", highlight=False)
        number = max(find_processes().gather(max(asked, default=0)))
        sys.exit(128 + number if number else TIME_IS_UP)
    except BrokenPipeError:
        raise  # its reader has gone: nobody is to be told
    except (ValueError, OSError, ModuleNotFoundError) as error:
        fail(error)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def note_pieces(
    out: Path, pieces: Sequence[Mapping[str, Any]], *, is_ours: bool
) -> None:
    """Put down in ``pieces.jsonl`` how long the work took, and on what."""
    path = out / "pieces.jsonl"
    if pieces and find_processes().is_first:
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        text = before + "".join(json.dumps(piece) + "\n" for piece in pieces)
        write_owned(path, text.encode(), is_ours=is_ours)


def _take_pieces(lines: "_Lines") -> list[dict[str, Any]]:
    return [{**piece, "hardware": describe_hardware()} for piece in lines.take_pieces()]


class _Lines(Pieces):
    """Prints how far the runs are, together, and how fast."""

    def __init__(self, console: Console, every: float = 15.0):
        """Print on ``console``, every so many seconds at most."""
        super().__init__()
        self._console, self._every = console, every

    def on_first_wave(self) -> None:
        """Say who runs together."""
        count = len(self.going)
        names = ", ".join(dict.fromkeys(method.name for method in self.going))
        self._print(f"{count} run{'s' * (count > 1)} together: {names}")
        self._total = sum(method.trace.num_updates for method in self.going)
        self._printed = time.perf_counter()

    def on_wave(self, versions: Sequence[int]) -> None:
        """Say how far they are, now and then."""
        super().on_wave(versions)
        now = time.perf_counter()
        if now - self._printed >= self._every:
            self._printed = now
            self._print_speed()

    def on_stop(self, method: Method, reason: str) -> None:
        """Print why."""
        super().on_stop(method, reason)
        self._print(f"  {reason}")

    def on_note(self, line: str) -> None:
        """Print it."""
        self._print(line)

    def on_group_end(self) -> None:
        """Say how far they are."""
        self._print_speed()

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _print_speed(self) -> None:
        done, rate = self.done or 0, self.rate
        left = (self._total - done) / rate / 60 if rate else math.inf
        self._print(
            f"  {done:,}/{self._total:,} updates  {rate:,.3g} updates/s  "
            f"{left:,.0f} min left"
        )
