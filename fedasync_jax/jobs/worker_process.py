"""What a process of a cluster does before it computes, and how it is asked to stop."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

import jax

from fedasync_jax.jobs.compile_cache import keep_compiled_programs
from fedasync_jax.jobs.cores import count_usable_cores, use_cores

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
"""XLA_FLAGS of a process that has one core of several."""

_SHARE_OF_MEMORY = 0.75  # of a GPU, which JAX takes at its start


class WorkerShare(NamedTuple):
    """What of a node a process may use.

    Attributes:
      cpus: cores.
      gpus: as Ray has given them; 0: it computes on its cores.
      compile_cache: whether it keeps compiled programs on the disk of its node.
    """

    cpus: int
    gpus: float
    compile_cache: bool = True


def prepare_worker(share: WorkerShare) -> None:
    """Use what was given and no more; only the first call of a process does it."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are told in a line
    if 0 < share.gpus < 1:
        part = f"{_SHARE_OF_MEMORY * share.gpus:.3f}"
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", part)
    flags = os.environ.get("XLA_FLAGS", "")
    if share.cpus == 1 < count_usable_cores() and ONE_THREAD not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_THREAD}".strip()
    use_cores(share.cpus)
    if not share.gpus:
        jax.config.update("jax_platforms", "cpu")
    if share.compile_cache:
        keep_compiled_programs()
    else:
        jax.config.update("jax_enable_compilation_cache", False)


@contextlib.contextmanager
def noting_interrupt() -> Iterator[list[int]]:
    """Yield a list that SIGINT is put into, by which a cluster takes a task back."""
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
