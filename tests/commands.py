"""Commands as a user starts them, without the seconds that their imports take.

A command is a process of its own, with its own arguments, environment, output, signals
and exit code. What takes a short command most of its time, to import other packages and
the project, is done once: by a process that then forks for every command. It has not
started a back end of JAX.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

# What forks must not have started threads, which macOS does not promise.
_CAN_FORK = sys.platform == "linux"
# Read when JAX is imported: for other values there is another process that forks.
_READ_EARLY = ("JAX_", "PYTHON")
_IMPORTED_BEFORE = (
    *("flax.linen", "flax.nnx", "jax", "optax", "optax.contrib"),
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "msgspec"),
    *("orbax.checkpoint", "rich.console", "rich.progress", "rich.table"),
    *("safetensors.numpy", "scipy.special", "scipy.stats", "tyro"),
    *("fedasync_jax.cli.sweep", "fedasync_jax.cli.train", "fedasync_jax.plotting"),
)


def run_script(
    name: str, *arguments: object, **how: Any
) -> subprocess.CompletedProcess[str]:
    """Run a file of scripts/ to its end; see ``start``."""
    return start(ROOT / "scripts" / name, *arguments, **how).finish()


def run_code(
    code: str, *arguments: object, **how: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``python -c CODE`` to its end; see ``start``."""
    return start("-c", code, *arguments, **how).finish()


def start(
    *words: object,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    import_anew: bool = False,
    may_fork: bool = True,
) -> "Command":
    """Start ``python WORDS``, as a fork where there are forks.

    Args:
      words: a script and its arguments, or ``-c``, code and its arguments.
      cwd: the folder that it runs in.
      env: all of its environment; None: that of this process.
      import_anew: whether it imports the project itself.
      may_fork: whether it may be a fork; one that is alone in its ``env`` costs more.
    """
    env = dict(os.environ if env is None else env)
    line = [str(word) for word in words]
    kind = Fork if _CAN_FORK and may_fork else Command
    return kind(line, cwd=cwd, env=env, import_anew=import_anew)


class Command:
    """A process whose output goes to files, so that nobody has to read it."""

    def __init__(self, words: list[str], **how: Any):
        self.words = words
        self.returncode: int | None = None
        self._files = (tempfile.TemporaryFile(), tempfile.TemporaryFile())
        self.pid = self._start(**how)

    def _start(self, *, cwd: Path, env: Mapping[str, str], import_anew: bool) -> int:
        del import_anew  # it does anyhow
        out, err = self._files
        words = [sys.executable, *self.words]
        self._process = subprocess.Popen(
            words, cwd=cwd, env=env, stdout=out, stderr=err, stdin=subprocess.DEVNULL
        )
        return self._process.pid

    def _ask(self) -> int | None:
        return self._process.poll()

    def poll(self) -> int | None:
        """Return the exit code, minus the signal that ended it, or None: it runs."""
        if self.returncode is None:
            self.returncode = self._ask()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def finish(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Wait for the end, and return exit code and output.

        Raises:
          subprocess.TimeoutExpired: after so many seconds; it is ended.
        """
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(self.words, timeout)
            time.sleep(0.005)
        output = []
        for file in self._files:
            with file:
                file.seek(0)
                output.append(file.read().decode())
        return subprocess.CompletedProcess(self.words, code, *output)


class Fork(Command):
    """A command that is a fork of the process that has imported all."""

    def _start(self, *, cwd: Path, env: Mapping[str, str], import_anew: bool) -> int:
        early = {name: env[name] for name in env if name.startswith(_READ_EARLY)}
        self._parent = _find_parent(frozenset(early.items()))
        output = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in self._files]
        request = {"words": self.words, "cwd": str(cwd), "env": dict(env)}
        return self._send(**request, output=output, import_anew=import_anew)

    def _ask(self) -> int | None:
        return self._send(pid=self.pid)

    def _send(self, **request: Any) -> Any:
        requests, answers = self._parent.stdin, self._parent.stdout
        assert requests is not None and answers is not None
        requests.write(json.dumps(request).encode() + b"\n")
        requests.flush()
        return json.loads(answers.readline())


_parents: dict[frozenset[tuple[str, str]], subprocess.Popen[bytes]] = {}


def _find_parent(early: frozenset[tuple[str, str]]) -> subprocess.Popen[bytes]:
    """Return the process that forks, started when it is first asked for."""
    if early not in _parents:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_READ_EARLY)}
        _parents[early] = subprocess.Popen(
            [sys.executable, __file__],
            env=kept | dict(early),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    return _parents[early]


def end_parents() -> None:
    """End the processes that fork."""
    while _parents:
        _, parent = _parents.popitem()
        with parent:
            pass  # it ends with its input


# In the process that forks


def _import_before() -> None:
    for name in _IMPORTED_BEFORE:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:  # an extra that is not installed
            continue
    gc.freeze()  # so that the collector of a fork does not touch, and copy, all that


def _fork_when_asked() -> list[str]:
    """Fork for every request; return, in a fork, what it is to run."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    for line in requests:
        request = json.loads(line)
        answer = _find_end(request["pid"]) if "pid" in request else _fork()
        if answer == 0 and "pid" not in request:
            requests.close()
            answers.close()
            return _become(request)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    sys.exit()


def _find_end(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _fork() -> int:
    with warnings.catch_warnings():  # of the threads of OpenBLAS, which end at a fork
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _become(request: dict[str, Any]) -> list[str]:
    """Take over folder, environment and output."""
    for number, path in enumerate(request["output"], start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["import_anew"]:
        for name in [n for n in sys.modules if n.split(".")[0] == "fedasync_jax"]:
            del sys.modules[name]
    return request["words"]


if __name__ == "__main__":
    _import_before()
    words = _fork_when_asked()
    # From here on a fork is the command, and ends as Python ends it.
    if words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
        runpy.run_path(words[0], run_name="__main__")
