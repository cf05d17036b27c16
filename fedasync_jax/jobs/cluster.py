"""A cluster of Ray: found, or made on this machine; who may work on it, and how large.

Ray is imported when a cluster is asked for, and not before.
"""

import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, cast

from fedasync_jax.jobs.cores import count_usable_cores

_REACHED_IN = 10.0  # seconds
_STARTS = 3  # tries: Ray gives a node 30 s, which a busy machine may need
# What Ray is told before it is imported: to give up in a minute and not in fourteen,
# and to tell nobody that it is used.
_WAYS = {
    "RAY_NUM_REDIS_GET_RETRIES": "2",
    "RAY_py_gcs_connect_timeout_s": "15",
    "RAY_USAGE_STATS_ENABLED": "0",
    # The future default: a task without a GPU leaves the choice of devices alone.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_OBJECT_STORE = 200 * 2**20  # bytes of a cluster of our own: little is passed
_UNITS = 10_000  # of a GPU, in which Ray counts: 1 // 0.2 of floats is 4


class ClusterChoice(NamedTuple):
    """Which cluster, and how much of it a task takes.

    Attributes:
      address: ``local``: made on this machine, and shut down at the end; ``auto``: the
        one that Ray finds; or ``HOST:PORT`` of one that this machine is part of.
      cpus: of a task, >= 1; None: 1.
      gpus: of a task: a share of one, or a whole number; None: 1 where there are GPUs.
    """

    address: str
    cpus: int | None = None
    gpus: float | None = None


class Cluster(NamedTuple):
    """A cluster that is connected.

    Attributes:
      address: see ``ClusterChoice``.
      cpus: of a task.
      gpus: of a task.
    """

    address: str
    cpus: int
    gpus: float

    def list_nodes(self) -> list[tuple[str, str]]:
        """Return id and name of every node on which a task has room."""
        nodes = [(n, _count_slots(n, self.cpus, self.gpus)) for n in _list_alive()]
        return [(n["NodeID"], n["NodeManagerAddress"]) for n, slots in nodes if slots]

    def count_slots(self) -> int:
        """Return how many tasks can run at a time, as the cluster is now."""
        return sum(_count_slots(node, self.cpus, self.gpus) for node in _list_alive())


def check_cluster(choice: ClusterChoice) -> None:
    """Raise ValueError, in one line, if a choice cannot be one."""
    host, _, port = choice.address.rpartition(":")
    is_address = bool(host) and "/" not in host and port.isdecimal()
    if choice.address not in ("local", "auto") and not is_address:
        raise ValueError(
            "ray must be local, auto or HOST:PORT of a cluster that this machine is "
            f"part of, got {choice.address}"
        )
    if choice.cpus is not None and choice.cpus < 1:
        raise ValueError(f"ray_cpus must be >= 1, got {choice.cpus}")
    gpus = choice.gpus or 0.0
    if not (0 <= gpus < 1 or 1 <= gpus == gpus // 1 < float("inf")):
        raise ValueError(f"ray_gpus must be in [0, 1) or a whole number, got {gpus:g}")


@contextlib.contextmanager
def open_cluster(choice: ClusterChoice) -> Iterator[Cluster]:
    """Connect to a cluster for as long as the context lasts.

    If this process is connected already, that connection is used and left as it is.
    What Ray would print is not printed.

    Args:
      choice: see there.

    Raises:
      ModuleNotFoundError: if the extra ``ray`` is not installed.
      ValueError: in one line, if there is no such cluster, it cannot be reached, or no
        node of it has room for a task, for which Ray would wait for ever.
    """
    check_cluster(choice)
    with contextlib.ExitStack() as stack:
        ray = import_ray()
        stack.enter_context(_without_rays_lines())
        if not ray.is_initialized():
            handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own there
            _connect(ray, choice.address, stack)
            stack.callback(ray.shutdown)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
        yield _fit(choice)


def import_ray() -> Any:
    """Import Ray.

    Raises:
      ModuleNotFoundError: in one line, if it is not installed.
    """
    for name, value in _WAYS.items():
        os.environ.setdefault(name, value)
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'ray must be installed for --ray: pip install ".[ray]" in a checkout, got '
            f"{error}"
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


def _connect(ray: Any, address: str, stack: contextlib.ExitStack) -> None:
    quiet = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": True,
    }
    try:
        if address == "local":
            for tries_left in reversed(range(_STARTS)):
                try:
                    return _start(ray, stack, quiet)
                except Exception:
                    ray.shutdown()
                    if not tries_left:
                        raise
        if address != "auto":
            _reach(address)
        ray.init(address=address, **quiet)
    except Exception as error:  # Ray has many words for it
        raise ValueError(
            f"ray must be a cluster that can be reached from here, got {address} "
            f"({_first_line(error)})"
        ) from error


def _start(ray: Any, stack: contextlib.ExitStack, options: dict[str, Any]) -> None:
    """Start a cluster on this machine."""
    with warnings.catch_warnings():
        # What Ray forks becomes another program at once, and never touches JAX.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        ray.init(
            address="local",
            num_cpus=count_usable_cores(),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            _temp_dir=stack.enter_context(_short_folder()),
            **options,
        )


def _reach(address: str) -> None:
    """Raise OSError at once where nothing listens; Ray would try for a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHED_IN).close()
    except OverflowError as error:
        raise OSError(str(error)) from error


@contextlib.contextmanager
def _short_folder() -> Iterator[str]:
    """Make a folder for the logs and sockets of a cluster, and remove it."""
    with tempfile.TemporaryDirectory(prefix="fa-", ignore_cleanup_errors=True) as path:
        yield path


def _fit(choice: ClusterChoice) -> Cluster:
    """Return the cluster with the size of a task; it must have room on one node."""
    nodes = [node["Resources"] for node in _list_alive()]
    largest = {kind: max(n.get(kind, 0) for n in nodes) for kind in ("CPU", "GPU")}
    cpus = choice.cpus or 1
    gpus = min(1, largest["GPU"]) if choice.gpus is None else choice.gpus
    for name, asked, kind in (("ray_cpus", cpus, "CPU"), ("ray_gpus", gpus, "GPU")):
        if asked > largest[kind]:
            raise ValueError(
                f"{name} must be at most the {largest[kind]:g} {kind}s of the largest "
                f"node of the cluster, got {asked:g}"
            )
    cluster = Cluster(choice.address, cpus, gpus)
    if not cluster.count_slots():
        raise ValueError(
            "ray_cpus and ray_gpus must be free on one node of the cluster together, "
            f"got {cpus} and {gpus:g}"
        )
    return cluster


def _list_alive() -> list[dict[str, Any]]:
    return [node for node in import_ray().nodes() if node["Alive"]]


def _count_slots(node: dict[str, Any], cpus: int, gpus: float) -> int:
    have = node["Resources"]
    slots = int(have.get("CPU", 0) // cpus)
    if not gpus:
        return slots
    if gpus >= 1:
        return min(slots, int(have.get("GPU", 0) // gpus))
    # Shares of a GPU are of one GPU: of two, 0.4 is room for four and not for five.
    tasks_of_one = _UNITS // max(1, round(_UNITS * gpus))
    return min(slots, int(have.get("GPU", 0)) * tasks_of_one)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class _Filtered:
    """A stream that leaves out what the threads of Ray write, such as lost workers."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _without_rays_lines() -> Iterator[None]:
    """Let Ray's threads say nothing; what there is to say, callers say in a line."""
    if sys.stdout is None:  # as it is where the shell closed it
        yield
        return
    with contextlib.redirect_stdout(cast(IO[str], _Filtered(sys.stdout))):
        yield
