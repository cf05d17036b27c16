"""Several processes of one experiment: they must have built the same; one writes it.

Every process reads the data and makes the schedules itself. So settings, samples,
fleets, schedules and the initial model are compared before anything is compiled. The
model that training starts from is that of process 0, bit for bit: processors differ in
how they round, and a warm-up makes more of it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from fedasync_jax.engine.processes import find_processes
from fedasync_jax.engine.sharing import share_arrays
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.settings import Settings, name_places
from fedasync_jax.jobs.identity import identify
from fedasync_jax.storage.fingerprint import Fingerprint
from fedasync_jax.storage.resume import check_goes_on
from fedasync_jax.storage.run_folder import RunFolder
from fedasync_jax.storage.silent_folder import SilentFolder

_HINT = "--no-distributed runs each process alone"


class ProcessesDiffer(ValueError):
    """Processes that should run one experiment were given different ones."""

    is_agreed = True  # all of them see it


def check_same(values: Mapping[str, Any]) -> None:
    """Refuse JSON values that differ between processes.

    Raises:
      ProcessesDiffer: in a line that names the first that does, and both values.
    """
    first, *others = find_processes().gather(dict(values))
    for index, other in enumerate(others, start=1):
        for name in sorted(first.keys() | other.keys()):
            pair = first.get(name), other.get(name)
            if pair[0] != pair[1]:
                raise ProcessesDiffer(
                    f"{name} must be the same in all processes, got {pair[0]} in "
                    f"process 0 and {pair[1]} in process {index} ({_HINT})"
                )


def check_same_settings(settings: Settings) -> None:
    """Refuse settings that differ between processes; places may.

    Raises:
      ProcessesDiffer: see ``check_same``.
    """
    places = name_places() | {"run_dir"}
    check_same({k: v for k, v in settings.to_json().items() if k not in places})


def build_in_all(build: Callable[[], Experiment]) -> Experiment:
    """Return what this process builds, if all processes build the same.

    All have x_0 of process 0.

    Raises:
      ProcessFailed: if another process cannot build it.
      ProcessesDiffer: in a line that says what differs.
    """
    processes = find_processes()
    built = processes.try_in_all(build)
    if processes.count == 1:
        return built
    own = identify(built)
    first = processes.lead(own.to_json)
    for index, line in enumerate(processes.gather(own.find_difference(first))):
        if line is not None:
            raise ProcessesDiffer(
                f"process {index} must have the experiment of process 0, got {line}"
            )
    shared = share_arrays(jax.device_get(built.variables))
    return dataclasses.replace(built, variables=shared)


def check_goes_on_in_all(path: str | Path, fingerprint: Fingerprint) -> None:
    """Refuse a folder as ``check_goes_on`` does, as process 0 sees it."""
    find_processes().lead(lambda: check_goes_on(path, fingerprint))


def open_run_folder(
    path: str | Path, config: Mapping[str, Any], fingerprint: Fingerprint
) -> RunFolder:
    """Open a run folder, in process 0; in the others, one that nothing is written to.

    Raises:
      ProcessFailed: if process 0 cannot open it.
      ValueError: see ``RunFolder``.
    """
    processes = find_processes()
    if not processes.is_first:
        processes.lead(lambda: None)
        return SilentFolder(path, fingerprint)
    folder = RunFolder(path, config, fingerprint)
    processes.lead(lambda: None)
    return folder
