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
    ``model.npz``       the final model, one array per leaf
    ``checkpoints/``    see ``checkpoint``
``plots/``          pictures

Times are simulated seconds. Only metrics are sure to be there: what a run does not know
it does not write. Arrays are never unpickled.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import numpy as np

from fedasync_jax.base import ArrayLike, PyTree
from fedasync_jax.resume import check_goes_on, lock_folder
from fedasync_jax.timeline import ACTIVITIES
from fedasync_jax.trace import LOSS_REASONS

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
    """A folder that one run writes to, and no other process at the same time.

    Attributes:
      path: where it is.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any]):
        """Make the folder, or go on in it, lock it, and write ``config.json``.

        ``metrics.jsonl`` begins anew with its first line: a run that goes on tells all
        its metrics again.

        Raises:
          ValueError: if ``path`` cannot be made or written to, is not an earlier part
            of the same run, or another process writes to it.
        """
        check_goes_on(path, config)
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(self.path)
            self._write_json("config.json", config)
        except OSError as error:
            raise ValueError(
                f"run_dir must be a folder that can be made and written to, got {path} "
                f"({error.strerror})"
            ) from error
        self._mode = "w"  # of metrics.jsonl, up to its first line

    def add_metrics(self, row: Row) -> None:
        """Append a line to ``metrics.jsonl``, whole and at once."""
        with (self.path / "metrics.jsonl").open(self._mode, encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._mode = "a"

    def checkpoint_folder(self, method: str) -> Path:
        """Return where the checkpoints of a method are."""
        return self.path / slugify(method) / "checkpoints"

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
        path.parent.mkdir(exist_ok=True)
        on_host: dict[str, Any] = {key: np.asarray(a) for key, a in arrays.items()}
        scratch = path.with_name(f".{path.name}")
        with scratch.open("wb") as file:
            np.savez_compressed(file, **on_host)
        os.replace(scratch, path)

    def write_method(
        self,
        method: str,
        updates: Mapping[str, np.ndarray],
        model: PyTree,
        **others: Mapping[str, np.ndarray],
    ) -> None:
        """Write what is known of a method: its arrivals, its final model and more.

        Args:
          method: its name; the folder is its slug.
          updates: arrays [T] by name.
          model: pytree of arrays; an array is saved under its path in the tree.
          **others: arrays by name, by the name of their archive: ``lost``,
            ``timeline``.
        """
        leaves = jax.tree_util.tree_leaves_with_path(model)
        variables = {_leaf_name(path): leaf for path, leaf in leaves}
        archives = {"updates": updates, **others, "model": variables}
        for name, arrays in archives.items():
            self.write_arrays(f"{slugify(method)}/{name}.npz", arrays)

    def _write_json(self, name: str, content: Any) -> None:
        # Written beside and moved, so that nobody ever reads half a file.
        scratch = self.path / f".{name}"
        scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(scratch, self.path / name)


def read_model(run_dir: str | Path, method: str, like: PyTree) -> PyTree:
    """Read the final model of a method.

    Args:
      run_dir: the run folder.
      method: name of the method, as in the metrics.
      like: a model of the same structure, such as ``model.init(key)``.

    Raises:
      ValueError: if there is no such model or it has other leaves than ``like``.

    Returns:
      A pytree like ``like`` of NumPy arrays.
    """
    path = Path(run_dir) / slugify(method) / "model.npz"
    if not path.is_file():
        raise ValueError(f"run_dir must hold the model of {method!r}, got {run_dir}")
    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    with np.load(path, allow_pickle=False) as archive:
        names = [_leaf_name(leaf_path) for leaf_path, _ in paths]
        shapes = [np.shape(leaf) for _, leaf in paths]
        if sorted(names) != sorted(archive.files) or shapes != [
            archive[name].shape for name in names
        ]:
            raise ValueError(
                f"like must have the leaves {', '.join(sorted(archive.files))} in the "
                f"shapes of {path}, got {', '.join(sorted(names))}"
            )
        return treedef.unflatten([archive[name] for name in names])


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


def _leaf_name(path: Sequence[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")
