"""The run folder: what a run leaves on the disk, written and read in one place.

``config.json``     settings and versions of the software
``metrics.jsonl``   one JSON object a line, one line per evaluation of a method
``summary.json``    the table that is printed at the end
``clients.npz``     ``num_samples`` int32 [C] and, of K classes, ``label_counts`` int32
                    [C, K]
``<slug>/``         per method:
    ``updates.npz``     arrays [T], one entry per arrival
    ``lost.npz``        arrays [L], one entry per task that never arrived: ``client``,
                        ``start_time``, ``end_time``, ``reason`` (of ``LOSS_REASONS``)
    ``timeline.npz``    arrays [N], what some of the clients did and when: ``client``,
                        ``start``, ``end``, ``activity`` (of ``ACTIVITIES``)
    ``model/``          the final model, see ``exports``
    ``checkpoints/``    see ``checkpoint``
``plots/``          pictures

Times are simulated seconds. Only metrics are sure to be there: what a run does not know
it does not write. Arrays are never unpickled.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fedasync_jax.base import ArrayLike
from fedasync_jax.schedule.timeline import ACTIVITIES
from fedasync_jax.schedule.trace import LOSS_REASONS
from fedasync_jax.storage.models import read_about
from fedasync_jax.storage.resume import check_goes_on, lock_folder

Row = Mapping[str, Any]

_UPDATES = (
    "client",
    "start_version",
    "start_time",
    "arrival_time",
    "staleness",
    "alpha",
    "applied",
)


class RunFolder:
    """A folder that one run writes to, and no other at the same time.

    To be closed, as by ``with``, when the run ends; the end of the process does it too.

    Attributes:
      path: where it is.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any]):
        """Make the folder, or go on in it, lock it, and write ``config.json``.

        A run that goes on tells all its metrics again, see ``add_metrics``.

        Raises:
          ValueError: if ``path`` cannot be made or written to, is not an earlier part
            of the same run, or another process writes to it.
        """
        check_goes_on(path, config)
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock: int | None = lock_folder(self.path)
            self._write_json("config.json", config)
        except OSError as error:
            raise ValueError(
                f"run_dir must be a folder that can be made and written to, got {path} "
                f"({error.strerror})"
            ) from error
        self._told = 0  # bytes of metrics.jsonl

    def __enter__(self) -> "RunFolder":
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let go of the lock; what is written is written already."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def add_metrics(self, row: Row) -> None:
        """Put the next line into ``metrics.jsonl``, whole and at once.

        Lines of an earlier part of the run stay as long as they are told again; what
        is told otherwise takes the place of all that follows.

        Raises:
          OSError: if the disk is full, or other than it was.
        """
        path = self.path / "metrics.jsonl"
        line = (json.dumps(row) + "\n").encode()
        with _writing(path):
            path.touch()
            with path.open("r+b") as file:
                file.seek(self._told)
                if file.read(len(line)) != line:
                    file.seek(self._told)
                    file.truncate()
                    file.write(line)
        self._told += len(line)

    def checkpoint_folder(self, method: str) -> Path:
        """Return where the checkpoints of a method are."""
        return self.path / slugify(method) / "checkpoints"

    def model_folder(self, method: str) -> Path:
        """Return where the final model of a method is, see ``exports``."""
        return self.path / slugify(method) / "model"

    def write_summary(self, rows: Sequence[Row]) -> None:
        """Write ``summary.json``."""
        self._write_json("summary.json", rows)

    def write_arrays(self, name: str, arrays: Mapping[str, ArrayLike]) -> None:
        """Write an archive of arrays, such as ``clients.npz``.

        Args:
          name: path in the run folder.
          arrays: arrays by name.
        """
        path = self.path / name
        on_host: dict[str, Any] = {key: np.asarray(a) for key, a in arrays.items()}
        scratch = path.with_name(f".{path.name}")
        with _writing(path):
            path.parent.mkdir(exist_ok=True)
            with scratch.open("wb") as file:
                np.savez_compressed(file, **on_host)
            os.replace(scratch, path)

    def write_method(self, method: str, **archives: Mapping[str, ArrayLike]) -> None:
        """Write what is known of a method.

        Args:
          method: its name; the folder is its slug.
          **archives: arrays by name, by the name of their archive: ``updates``,
            ``lost``, ``timeline``.
        """
        for name, arrays in archives.items():
            self.write_arrays(f"{slugify(method)}/{name}.npz", arrays)

    def _write_json(self, name: str, content: Any) -> None:
        # Written beside and moved, so that nobody ever reads half a file.
        path, scratch = self.path / name, self.path / f".{name}"
        with _writing(path):
            text = json.dumps(content, indent=2) + "\n"
            scratch.write_text(text, encoding="utf-8")
            os.replace(scratch, path)


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
      What ``exports.read_about`` returns, by the slug of the method.
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


def read_clients(run_dir: str | Path) -> dict[str, np.ndarray] | None:
    """Read what data the clients have, as ``read_updates`` does."""
    return _read_arrays(Path(run_dir) / "clients.npz", ("num_samples",))


def slugify(method: str) -> str:
    """Return a folder name for a method.

    >>> slugify("FedAsync polynomial(0.5)")
    'fedasync-polynomial-0-5'
    """
    return re.sub(r"[^a-z0-9]+", "-", method.lower()).strip("-")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name the file in the error if it cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{path} could not be written: {reason}") from error


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
