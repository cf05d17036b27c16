"""Run folders, read again: metrics, arrivals, timelines, models.

Only metrics are sure to be there. Arrays are never unpickled.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fedasync_jax.schedule.timeline import ACTIVITIES
from fedasync_jax.schedule.trace import LOSS_REASONS
from fedasync_jax.storage.models import read_about
from fedasync_jax.storage.run_folder import Row, slugify

_UPDATES = (
    "client",
    "start_version",
    "start_time",
    "arrival_time",
    "staleness",
    "alpha",
    "applied",
)


def read_metrics(run_dir: str | Path) -> dict[str, list[Row]]:
    """Read ``metrics.jsonl``.

    A last line that was not written to its end is left out. Where a method has a
    version twice, as after an interruption, the later line holds.

    Args:
      run_dir: the run folder.

    Raises:
      ValueError: if there is no such file or no whole line in it, or a line other than
        the last is not JSON.

    Returns:
      Rows by method, in order of first appearance; rows by rising version.
    """
    path = Path(run_dir) / "metrics.jsonl"
    if not path.is_file():
        raise ValueError(f"run_dir must hold metrics.jsonl, got {run_dir}")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    methods: dict[str, dict[int, Row]] = {}
    for number, line in enumerate(lines, start=1):
        row = _parse_row(line, path, number, is_last=number == len(lines))
        if row is not None:
            methods.setdefault(row["method"], {})[row["version"]] = row
    if not methods:
        raise ValueError(f"metrics.jsonl must hold one whole line or more, got {path}")
    return {m: [rows[v] for v in sorted(rows)] for m, rows in methods.items()}


def read_models(run_dir: str | Path) -> dict[str, dict[str, Any]]:
    """Read ``model.json`` of every final model that was written to its end.

    Args:
      run_dir: the run folder.

    Returns:
      What ``models.read_about`` returns, by the slug of the method.
    """
    folders = {path.parent.name: path for path in sorted(Path(run_dir).glob("*/model"))}
    models = {slug: read_about(folder) for slug, folder in folders.items()}
    return {slug: about for slug, about in models.items() if about is not None}


def read_updates(run_dir: str | Path, method: str) -> dict[str, np.ndarray] | None:
    """Read the arrivals of a method.

    Args:
      run_dir: the run folder.
      method: name of the method, as in the metrics.

    Raises:
      ValueError: if the file is there but cannot be read.

    Returns:
      The arrays [T] of ``updates.npz``; None if there is no such file or T is 0.
    """
    return _read_arrays(Path(run_dir) / slugify(method) / "updates.npz", _UPDATES)


def read_lost(run_dir: str | Path, method: str) -> dict[str, np.ndarray] | None:
    """Read the tasks of a method that never arrived, as ``read_updates`` does."""
    path = Path(run_dir) / slugify(method) / "lost.npz"
    arrays = _read_arrays(path, ("client", "start_time", "end_time", "reason"))
    return _check_index(arrays, "reason", LOSS_REASONS, path)


def read_timeline(run_dir: str | Path, method: str) -> dict[str, np.ndarray] | None:
    """Read what clients did while a method ran, as ``read_updates`` does."""
    path = Path(run_dir) / slugify(method) / "timeline.npz"
    arrays = _read_arrays(path, ("client", "start", "end", "activity"))
    return _check_index(arrays, "activity", ACTIVITIES, path)


def read_is_async(run_dir: str | Path, method: str) -> bool | None:
    """Return whether arrivals of a method may be stale; None if it is not written.

    Raises:
      ValueError: if ``method.json`` cannot be read.
    """
    path = Path(run_dir) / slugify(method) / "method.json"
    if not path.is_file():
        return None
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["is_async"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must say is_async, got {error}") from error


def read_clients(run_dir: str | Path) -> dict[str, np.ndarray] | None:
    """Read what data the clients have, as ``read_updates`` does."""
    return _read_arrays(Path(run_dir) / "clients.npz", ("num_samples",))


def _parse_row(line: str, path: Path, number: int, is_last: bool) -> Row | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        if is_last:
            return None
        raise ValueError(f"{path}, line {number}, must be JSON, got {error}") from error


def _read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Return all arrays of an archive, all of one length; None if that is 0."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in {*archive.files, *names}}
            lengths = {len(array) for array in arrays.values()}
    except (BadZipFile, EOFError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be an archive of {', '.join(names)}, got {error}"
        ) from error
    if len(lengths) > 1:
        raise ValueError(f"{path} must hold arrays of one length, got {lengths}")
    return arrays if lengths != {0} else None


def _check_index(
    arrays: dict[str, np.ndarray] | None, name: str, words: Sequence[str], path: Path
) -> dict[str, np.ndarray] | None:
    """Return the arrays if all numbers of one are positions in ``words``."""
    if arrays is not None:
        low, high = arrays[name].min(), arrays[name].max()
        if not 0 <= low <= high < len(words):
            raise ValueError(
                f"{name} in {path} must be in 0..{len(words) - 1}, got {low} to {high}"
            )
    return arrays
