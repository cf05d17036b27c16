"""A command in a child process: bounded in time, in memory and in what it writes.

A child is forked from a process that has imported everything and has not yet started a
device, so that a case costs what it does and not what its imports do.
"""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_DATA = 6 * 2**30  # bytes of memory
_FILE = 2**28  # bytes of one file
_SHOWN = 2**16  # bytes of output that are looked at


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
      code: exit code; negative: the signal that killed it.
      timed_out: whether it was killed for taking too long.
      out: what it wrote to stdout.
      err: what it wrote to stderr.
      seconds: how long it took.
    """

    code: int
    timed_out: bool
    out: str
    err: str
    seconds: float


class Child:
    """A command on its way; ``poll`` it until it has ended."""

    def __init__(
        self, work: Callable[[], object], folder: Path, logs: Path, limit: float
    ):
        """Start.

        Args:
          work: what is done; it may end the process by ``SystemExit``.
          folder: where it is done.
          logs: folder for its output, outside of ``folder``; it is made.
          limit: seconds, after which it is killed.
        """
        logs.mkdir(parents=True)
        self._logs, self._limit = logs, limit
        sys.stdout.flush()
        sys.stderr.flush()
        self._begin = time.monotonic()
        self._pid = os.fork()
        if not self._pid:
            _become(work, folder, logs)

    def poll(self) -> Ended | None:
        """Return how it ended; None if it has not."""
        seconds = time.monotonic() - self._begin
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        timed_out = not pid and seconds > self._limit
        if timed_out:
            os.killpg(self._pid, signal.SIGKILL)
            _, status = os.waitpid(self._pid, 0)
        elif not pid:
            return None
        out, err = (_read(self._logs / name) for name in ("out", "err"))
        return Ended(os.waitstatus_to_exitcode(status), timed_out, out, err, seconds)

    def kill(self) -> None:
        """End it."""
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def wait(child: Child) -> Ended:
    """Return how a child ended, when it has."""
    while (ended := child.poll()) is None:
        time.sleep(0.01)
    return ended


def _become(work: Callable[[], object], folder: Path, logs: Path) -> None:
    """Be the child: do the work and never return."""
    code = 70
    try:
        os.setsid()
        for number, path in ((0, os.devnull), (1, logs / "out"), (2, logs / "err")):
            mode = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
            os.dup2(os.open(path, mode, 0o644), number)
        resource.setrlimit(resource.RLIMIT_DATA, (_DATA, _DATA))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an OSError instead
        os.chdir(folder)
        code = _do(work)
    finally:
        os._exit(code)


def _do(work: Callable[[], object]) -> int:
    """Return the exit code that the interpreter would give."""
    try:
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0) & 0xFF


def _read(path: Path) -> str:
    """Return a log, its middle left out if it is long."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        content = file.read(_SHOWN)
        size = path.stat().st_size
        if size > 2 * _SHOWN:
            file.seek(size - _SHOWN)
        content += file.read(_SHOWN)
    return content.decode("utf-8", "replace")
