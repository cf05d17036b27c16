"""Several processes: how a command finds the others, joins and leaves them."""

import argparse
import contextlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax

from fedasync_jax.cli.flags import fail, fit_line
from fedasync_jax.engine.processes import Processes, ProcessFailed, find_processes

_TOGETHER = ("coordinator_address", "num_processes", "process_id")
_DEFAULT_TIMEOUT = 300  # seconds, as that of JAX
_FAILED = 2  # exit code
_PATIENCE = 20.0  # seconds in which the others should have heard why
_IF_LOST = 2.0  # where one of them will not answer
_SLURM = ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")


def join_processes(own: argparse.Namespace) -> None:
    """Join the other processes of this command, if there are any.

    It must be called before the first use of a device; a bad flag, and a coordinator
    that does not answer in time, end the process in one line.

    Args:
      own: flags of the command, see ``DISTRIBUTED_FLAGS``.
    """
    given = {n: getattr(own, n) for n in _TOGETHER if getattr(own, n) is not None}
    timeout = _parse_number("initialization_timeout", own.initialization_timeout, 1)
    if own.no_distributed and given:
        fail(f"no_distributed must stand without {', '.join(given)}")
    if not given:
        cluster = None if own.no_distributed else find_cluster(os.environ)
        if cluster is not None:
            _join_cluster(cluster, timeout or _DEFAULT_TIMEOUT)
        return
    if len(given) < len(_TOGETHER):
        fail(
            f"{', '.join(_TOGETHER[:2])} and {_TOGETHER[2]} must be given together, "
            f"got {' and '.join(given)} alone"
        )
    address = given["coordinator_address"]
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        fail(f"coordinator_address must be HOST:PORT, got {address}")
    count = _parse_number("num_processes", given["num_processes"], 1)
    index = _parse_number("process_id", given["process_id"], 0)
    assert count is not None and index is not None
    if index >= count:
        fail(f"process_id must be in 0..{count - 1}, got {index}")
    if count > 1:
        _initialize(
            timeout or _DEFAULT_TIMEOUT,
            address,
            coordinator_address=address,
            num_processes=count,
            process_id=index,
            cluster_detection_method="deactivate",
        )


def find_cluster(environment: Mapping[str, str]) -> str | None:
    """Return what has started several processes of this command; None: nothing has.

    A shell in an allocation of SLURM, and a step of one task, are not several: there
    the variables of the whole job may say otherwise, those of the step do not.

    Args:
      environment: its variables.

    Returns:
      "slurm", "ompi", "tpu", or None.
    """
    slurm = all(f"SLURM_{name}" in environment for name in _SLURM)
    tasks = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS"))
    if slurm and _is_several(tasks):
        return "slurm"
    if _is_several(environment.get("OMPI_COMM_WORLD_SIZE")):
        return "ompi"
    hosts = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
    if any("," in environment.get(name, "") for name in hosts):
        return "tpu"
    # JAX sets this variable where there is no chip.
    is_tpu = importlib.util.find_spec("libtpu") is not None
    return "tpu" if is_tpu and "TPU_SKIP_MDS_QUERY" not in environment else None


@contextlib.contextmanager
def end_together() -> Iterator[None]:
    """End the process when the others do; if it fails, or one of them, in one line."""
    try:
        yield
        find_processes().lead(lambda: None)  # process 0 writes when all is done
    except BaseException as error:
        processes = find_processes()
        is_exit = isinstance(error, SystemExit)
        is_lost = isinstance(error, jax.errors.JaxRuntimeError)
        if processes.count == 1 or (is_exit and error.code in (0, None)):
            raise
        processes.report(error)
        if isinstance(error, ProcessFailed):
            _say(str(error))
        elif is_lost:
            _say(f"all processes must stay to the end, but one is gone: {error}")
        elif not is_exit:
            traceback.print_exception(error)
        code = error.code if is_exit and isinstance(error.code, int) else _FAILED
        _leave(processes, code, _IF_LOST if is_lost else _PATIENCE)


def count_processes() -> str:
    """Return how many processes there are, for a line; nothing of one."""
    count = find_processes().count
    return f" of {count} processes" if count > 1 else ""


def _leave(processes: Processes, code: int, seconds: float) -> NoReturn:
    """End this process when the others have heard why.

    JAX would wait for all of them, also for one that is gone, and abort.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    processes.part(seconds)
    os._exit(code)


def _join_cluster(cluster: str, timeout: int) -> None:
    if cluster == "ompi" and "OMPI_MCA_orte_hnp_uri" not in os.environ:
        fail(
            "coordinator_address, num_processes and process_id must be given, since "
            "this Open MPI (5 or newer) does not tell JAX where process 0 is; "
            "--no-distributed runs each process alone"
        )
    # A TPU chip may stand alone.
    _initialize(timeout, f"process 0 of {cluster}", is_sure=cluster != "tpu")


def _initialize(
    timeout: int, where: str, *, is_sure: bool = True, **given: Any
) -> None:
    """Join the processes; JAX, which would abort a little later, gets no chance to."""

    def give_up() -> None:
        _say(f"all processes must be there in {timeout} s, got no answer from {where}")
        os._exit(_FAILED)

    with contextlib.suppress(AttributeError):  # a signal is the command's own to heed
        jax.config.update("jax_enable_preemption_service", False)
    watch = threading.Timer(timeout, give_up)
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(initialization_timeout=timeout + 60, **given)
        find_processes()  # they meet
    except (OSError, RuntimeError, ValueError) as error:
        if is_sure:
            fail(f"processes must be able to join, got {error}")
    finally:
        watch.cancel()


def _say(line: str) -> None:
    sys.stderr.write(f"error: {fit_line(line)}\n")
    sys.stderr.flush()


def _is_several(count: str | None) -> bool:
    return count is not None and count.isdecimal() and int(count) > 1


def _parse_number(name: str, text: str | None, least: int) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < least:
        fail(f"{name} must be a whole number >= {least}, got {text}")
    return int(text)
