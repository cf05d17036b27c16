"""The run folder: what a run leaves on the disk (``read_run`` reads it again).

``config.json``     settings and versions of the software
``metrics.jsonl``   one JSON object a line, one line per evaluation of a method
``summary.json``    the table that is printed at the end
``clients.npz``     ``num_samples`` int32 [C] and, of K classes, ``label_counts`` int32
                    [C, K]
``<slug>/``         per method:
    ``method.json``     ``name``, ``is_async``: whether its arrivals may be stale
    ``updates.npz``     arrays [T], one entry per arrival
    ``lost.npz``        arrays [L], one entry per task that never arrived: ``client``,
                        ``start_time``, ``end_time``, ``reason`` (of ``LOSS_REASONS``)
    ``timeline.npz``    arrays [N], what some of the clients did and when: ``client``,
                        ``start``, ``end``, ``activity`` (of ``ACTIVITIES``)
    ``model/``          the final model, see ``models``
    ``checkpoints/``    see ``checkpoints``
``plots/``          pictures

Times are simulated seconds. Only metrics are sure to be there: what a run does not know
it does not write.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.base import ArrayLike
from fedasync_jax.storage.resume import check_goes_on, lock_folder

Row = Mapping[str, Any]


class RunFolder:
    """A folder that one run writes to, and no other at the same time.

    To be closed, as by ``with``, when the run ends; the end of the process does it too.

    Attributes:
      path: where it is.
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
    ):
        """Make the folder, or go on in it, lock it, and write ``config.json``.

        A run that goes on tells all its metrics again, see ``add_metrics``. For
        ``defaults`` see ``check_goes_on``.

        Raises:
          ValueError: if ``path`` cannot be made or written to, is not an earlier part
            of the same run, or another process writes to it.
        """
        check_goes_on(path, config, defaults or {})
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
        """Return where the final model of a method is, see ``models``."""
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

    def write_facts(self, method: str, *, is_async: bool) -> None:
        """Write ``method.json``: what the metrics do not tell of a method."""
        folder = self.path / slugify(method)
        with _writing(folder):
            folder.mkdir(exist_ok=True)
        facts = {"name": method, "is_async": is_async}
        self._write_json(f"{slugify(method)}/method.json", facts)

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
        path = self.path / name
        scratch = path.with_name(f".{path.name}")
        with _writing(path):
            text = json.dumps(content, indent=2) + "\n"
            scratch.write_text(text, encoding="utf-8")
            os.replace(scratch, path)


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
