"""Run folders, read again: metrics, arrivals, timelines, models.

Only metrics are sure to be there. Arrays are never unpickled.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.parts.files import open_regular
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.schedule.timeline import ACTIVITIES
from fedasync_jax.schedule.trace import LOSS_REASONS
from fedasync_jax.storage.archives import read_archive
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.models import read_about
from fedasync_jax.storage.run_folder import Row
from fedasync_jax.storage.schema import (
    Facts,
    MetricsChecksum,
    MetricsLine,
    SummaryLine,
    parse_json,
    read_json,
)

# The arrays that must be there, and the kinds of their types.
_UPDATES = {
    "client": "iu",
    "start_version": "iu",
    "start_time": "fiu",
    "arrival_time": "fiu",
    "staleness": "iu",
    "alpha": "fiu",
    "applied": "b",
}
_LOST = {"client": "iu", "start_time": "fiu", "end_time": "fiu", "reason": "iu"}
_TIMELINE = {"client": "iu", "start": "fiu", "end": "fiu", "activity": "iu"}

# What every line is sure to have once it is read.
_BLANK: Row = {
    name: None
    for name in (
        "updates",
        "gradients",
        "virtual_time",
        "train_loss",
        "mean_staleness",
        "mean_alpha",
        "test_accuracy",
        "test_loss",
    )
} | {"rejected": 0, "lost": 0}


def read_metrics(run_dir: str | Path) -> dict[str, list[Row]]:
    """Read ``metrics.jsonl``.

    A last line that was not written to its end is left out. Where a method has a
    version twice, as after an interruption, the later line holds.

    Args:
      run_dir: the run folder.

    Raises:
      ValueError: if there is no such file or no whole line in it, it is damaged, or a
        line other than the last is not one of metrics.

    Returns:
      Rows by method, in order of first appearance; rows by rising version.
    """
    path = Path(run_dir) / "metrics.jsonl"
    content = _read_checked(path)
    lines = content.decode(errors="replace").splitlines()
    methods: dict[str, dict[int, Row]] = {}
    for number, line in enumerate(lines, start=1):
        row = _parse_row(line, path, number, is_last=number == len(lines))
        if row is not None:
            methods.setdefault(row["method"], {})[row["version"]] = row
    if not methods:
        raise ValueError(f"metrics.jsonl must hold one whole line or more, got {path}")
    return {m: [rows[v] for v in sorted(rows)] for m, rows in methods.items()}


def read_summary(run_dir: str | Path) -> list[Row]:
    """Read ``summary.json``, a line a method; none if the run is not finished.

    Raises:
      ValueError: if it is there but cannot be read.
    """
    path = Path(run_dir) / "summary.json"
    if not path.exists():
        return []
    _, rows = read_json(path, list[SummaryLine], "the table of a run")
    return rows


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
    arrays = _read_arrays(path, _LOST)
    return _check_index(arrays, "reason", LOSS_REASONS, path)


def read_timeline(run_dir: str | Path, method: str) -> dict[str, np.ndarray] | None:
    """Read what clients did while a method ran, as ``read_updates`` does."""
    path = Path(run_dir) / slugify(method) / "timeline.npz"
    arrays = _read_arrays(path, _TIMELINE)
    return _check_index(arrays, "activity", ACTIVITIES, path)


def read_client_scores(
    run_dir: str | Path, method: str
) -> dict[str, np.ndarray] | None:
    """Read the final model's scores by client, [C], as ``read_updates`` does."""
    path = Path(run_dir) / slugify(method) / "clients.npz"
    return _read_arrays(path, {"loss": "f"})


def read_is_async(run_dir: str | Path, method: str) -> bool | None:
    """Return whether arrivals of a method may be stale; None if it is not written.

    Raises:
      ValueError: if ``method.json`` cannot be read.
    """
    path = Path(run_dir) / slugify(method) / "method.json"
    if not path.exists():
        return None
    facts, _ = read_json(path, Facts, "JSON with name and is_async")
    return facts.is_async


def read_clock(run_dir: str | Path) -> str:
    """Return what the times of a run are: "real" over a network, or "simulated"."""
    try:
        config = read_config(run_dir)
    except ValueError:  # curves can be drawn without
        return "simulated"
    return "real" if "limits" in config else "simulated"  # only servers have them


def read_clients(run_dir: str | Path) -> dict[str, np.ndarray] | None:
    """Read what data the clients have, as ``read_updates`` does."""
    return _read_arrays(Path(run_dir) / "clients.npz", {"num_samples": "iu"})


def _read_checked(path: Path) -> bytes:
    """Return the bytes of the metrics, if they are those that were written."""
    try:
        with open_regular(path) as file:
            content = file.read()
    except OSError as error:
        raise ValueError(
            f"run_dir must hold metrics.jsonl, got {path.parent} ({error.strerror})"
        ) from error
    checksum = path.with_suffix(".sha256")
    if checksum.exists():
        written, _ = read_json(checksum, MetricsChecksum, "the checksum of metrics")
        digest = hashlib.sha256(content[: written.bytes]).hexdigest()
        if len(content) < written.bytes or digest != written.sha256:
            raise ValueError(
                f"{path} must be as the run wrote it, but its checksum differs: it was "
                "edited or damaged; a run that goes on writes it anew"
            )
    return content


def _parse_row(line: str, path: Path, number: int, is_last: bool) -> Row | None:
    where = f"{path}, line {number},"
    try:
        _, row = parse_json(line.encode(), MetricsLine, "JSON of metrics", where)
    except ValueError:
        if is_last and not line.endswith("}"):
            return None  # cut by a kill
        raise
    return {**_BLANK, **row}


def _read_arrays(
    path: Path, columns: Mapping[str, str]
) -> dict[str, np.ndarray] | None:
    """Return all arrays of an archive, all of one length; None if that is 0."""
    if not path.exists():
        return None
    arrays = read_archive(path, columns)
    return arrays if all(map(len, arrays.values())) else None


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
