"""What a process of a cluster does before it computes, and how it is asked to stop."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax

from fedasync_jax.jobs.compile_cache import keep_compiled_programs
from fedasync_jax.jobs.cores import count_usable_cores, use_cores
from fedasync_jax.jobs.nodes import DriverPlace

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
"""XLA_FLAGS of a process that has one core of several."""

_SHARE_OF_MEMORY = 0.75  # of a GPU, which JAX takes at its start


class WorkerSetup(NamedTuple):
    """What a process of a cluster begins with.

    Attributes:
      place: of the driver.
      cpus: cores that it may use.
      gpus: as Ray has given them; 0: it computes on its cores.
      compile_cache: whether it keeps compiled programs on the disk of its node.
      loads: called before all else, as to import parts of one's own.
    """

    place: DriverPlace
    cpus: int = 1
    gpus: float = 0.0
    compile_cache: bool = True
    loads: Sequence[Callable[[], None]] = ()


class Here(NamedTuple):
    """Where a task runs.

    Attributes:
      host: name of the machine.
      process: its number there.
    """

    host: str
    process: int


def find_here() -> Here:
    """Return where this process is."""
    return Here(socket.gethostname(), os.getpid())


def prepare_worker(setup: WorkerSetup) -> bool:
    """Use what was given and no more; return whether the driver's disk is shared."""
    shares_disk = setup.place.enter()
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are told in a line
    if 0 < setup.gpus < 1:
        part = f"{_SHARE_OF_MEMORY * setup.gpus:.3f}"
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", part)
    flags = os.environ.get("XLA_FLAGS", "")
    if setup.cpus == 1 < count_usable_cores() and ONE_THREAD not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_THREAD}".strip()
    use_cores(setup.cpus)
    if not setup.gpus:
        jax.config.update("jax_platforms", "cpu")
    if setup.compile_cache:
        keep_compiled_programs()
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    for load in setup.loads:
        load()
    return shares_disk


@contextlib.contextmanager
def noting_interrupt() -> Iterator[list[int]]:
    """Yield a list that SIGINT is put into, by which a cluster takes a task back."""
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
