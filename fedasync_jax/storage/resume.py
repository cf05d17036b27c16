"""Whether a run folder may be written to: the same run, and one writer at a time."""

import json
import os
import socket
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NOTHING: Mapping[str, Any] = types.MappingProxyType({})


def check_goes_on(
    path: str | Path, config: Mapping[str, Any], defaults: Mapping[str, Any] = _NOTHING
) -> None:
    """Refuse a folder that holds anything but an earlier part of the same run.

    Nothing is ever overwritten. A folder that is empty is a new one. A run goes on with
    the settings that it began with; only ``num_updates`` may grow.

    Args:
      path: the run folder.
      config: with the ``settings`` of the run, as ``Settings.to_json`` has them.
      defaults: of all settings: a run that was made before there was one had this.

    Raises:
      ValueError: if ``path`` exists and is not such a run.
    """
    if not Path(path).exists() or _is_unused(Path(path)):
        return
    earlier = read_config(path)["settings"]
    differences = compare_settings(earlier, config["settings"], defaults)
    for name, (before, now) in differences.items():
        grows = name == "num_updates" and isinstance(before, int) and before <= now
        if not grows:
            raise ValueError(
                f"{name} must be {before} to go on with the run {path}, got {now}"
            )


def _is_unused(folder: Path) -> bool:
    """Return whether a folder is empty, or a run was killed before it began there."""
    if not folder.is_dir():
        return False
    try:
        return {path.name for path in folder.iterdir()} <= {".lock", ".config.json"}
    except PermissionError:
        return False  # told of by whoever reads it


def compare_settings(
    earlier: Mapping[str, Any],
    settings: Mapping[str, Any],
    defaults: Mapping[str, Any] = _NOTHING,
) -> dict[str, tuple[Any, Any]]:
    """Return what differs, but for the place: values before and now, by name.

    Args:
      earlier: settings that were read from JSON.
      settings: as ``Settings.to_json`` has them.
      defaults: what ``earlier`` had where it does not say so.

    >>> compare_settings({"alpha": 0.6, "seed": 1}, {"alpha": 0.9, "seed": 1})
    {'alpha': (0.6, 0.9)}
    """
    same_kind = json.loads(json.dumps(settings))
    earlier = {**json.loads(json.dumps(dict(defaults))), **earlier}
    pairs = {
        name: (earlier.get(name), same_kind.get(name))
        for name in sorted((earlier.keys() | same_kind.keys()) - {"run_dir"})
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def read_config(run_dir: str | Path) -> dict[str, Any]:
    """Read ``config.json``.

    Raises:
      ValueError: if there is no such file or it is not the config of a run.
    """
    path = Path(run_dir) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return {**config, "settings": dict(config["settings"])}
    except PermissionError as error:
        raise ValueError(
            f"run_dir must be a folder that can be read, got {run_dir} "
            f"({error.strerror})"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"run_dir must be a new folder or a run with config.json, got {run_dir}"
        ) from error


def lock_folder(folder: Path) -> int:
    """Take the lock of a folder, which is held until it is closed or the process ends.

    The system lets go of it however the process ends, so that nothing is left behind.
    Where the system has no such locks, as on Windows, nothing is locked.

    Args:
      folder: it must exist.

    Raises:
      OSError: if the folder cannot be written to.
      ValueError: if another process holds the lock.

    Returns:
      A file descriptor; closing it lets go of the lock.
    """
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    holder = _try_lock(lock)
    if holder:
        os.close(lock)
        raise ValueError(
            f"run_dir must not be in use, got {folder}, which {holder} writes to"
        )
    os.truncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return lock


def find_writer(folder: Path) -> str | None:
    """Return which process holds the lock of a folder; None if none does."""
    try:
        lock = os.open(folder / ".lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        return _try_lock(lock)
    finally:
        os.close(lock)


def _try_lock(lock: int) -> str | None:
    """Lock an open file; return who holds it if that cannot be done."""
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return None
    except BlockingIOError:
        return os.read(lock, 1000).decode() or "another process"
    return None
