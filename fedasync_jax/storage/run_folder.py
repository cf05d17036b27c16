"""The run folder: what a run leaves on the disk (``read_run`` reads it again).

``config.json``     settings, software, devices, see ``config``
``metrics.jsonl``   one JSON object a line, one line per evaluation of a method
``metrics.sha256``  how many bytes of it were written, and their checksum
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
    ``clients.npz``     arrays [C], the final model on every client's own data: ``loss``
                        and, of classifiers, ``accuracy``
    ``model/``          the final model, see ``models``
    ``checkpoints/``    see ``checkpoints``
``plots/``          pictures

Times are simulated seconds. Only metrics are sure to be there: what a run does not know
it does not write.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedasync_jax.base import ArrayLike
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage.archives import write_archive
from fedasync_jax.storage.config import (
    compare_origins,
    origin_of,
    read_config,
    write_config,
)
from fedasync_jax.storage.fingerprint import Fingerprint
from fedasync_jax.storage.lock import lock_folder
from fedasync_jax.storage.resume import check_goes_on
from fedasync_jax.storage.writing import make_folder, naming, open_own, write_file

Row = Mapping[str, Any]

_ROUNDING = "equal up to rounding, not bit for bit"


class RunFolder:
    """A folder that one run writes to, and no other at the same time.

    To be closed, as by ``with``, when the run ends; the end of the process does it too.

    Attributes:
      path: where it is.
      notes: what the user should know when the run goes on, a line each.
      writes: whether anything is written, see ``silent_folder``.
    """

    writes = True

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        fingerprint: Fingerprint | None = None,
    ):
        """Make the folder, or go on in it, and lock it.

        ``config.json`` of a run that goes on is written when it does, see
        ``begin_sitting``. A run that goes on tells all its metrics again, see
        ``add_metrics``.

        Args:
          path: where it is.
          config: with the ``settings`` of the run, and the ``versions``, ``revision``
            and ``devices`` that make this part of it.
          fingerprint: what decides its results; default: the settings alone.

        Raises:
          ValueError: if ``path`` cannot be made or written to, is not an earlier part
            of the same run, or another process writes to it.
        """
        fingerprint = fingerprint or Fingerprint(config.get("settings", {}))
        check_goes_on(path, fingerprint)
        self.path = Path(path)
        self.fingerprint = fingerprint
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock: int | None = lock_folder(self.path)
            self._begin(config)
        except OSError as error:
            reason = error.strerror or str(error).rpartition(": ")[2]
            raise ValueError(
                f"run_dir must be a folder that can be made and written to, got {path} "
                f"({reason})"
            ) from error
        self._told = 0  # bytes of metrics.jsonl
        self._hash = hashlib.sha256()  # of them

    def _begin(self, config: Mapping[str, Any]) -> None:
        """Add a sitting to the config; a new run's is written at once."""
        is_new = not (self.path / "config.json").exists()
        earlier = {} if is_new else read_config(self.path)
        sittings = earlier.get("sittings") or [origin_of(earlier)] * (not is_new)
        self._sitting: dict[str, Any] = {"begins": {}, **origin_of(config)}
        self._config: dict[str, Any] = {
            **(config if is_new else earlier),
            "settings": config.get("settings", {}),
            "fingerprint": self.fingerprint.to_json(),
            "sittings": [*sittings, self._sitting],
        }
        changes = compare_origins(sittings[-1], config) if sittings else ""
        self.notes = [f"goes on with {changes}: {_ROUNDING}"] if changes else []
        if is_new:
            write_config(self.path, self._config)

    def begin_sitting(self, method: str, version: int) -> None:
        """Put down where a method begins, or goes on.

        Called when its checkpoint has been read, so that a run that cannot go on keeps
        the config that it had.

        Raises:
          OSError: if it cannot be written.
        """
        self._sitting["begins"][method] = version
        write_config(self.path, self._config)

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
        path, checksum = self.path / "metrics.jsonl", self.path / "metrics.sha256"
        line = (json.dumps(row) + "\n").encode()
        with naming(path), os.fdopen(open_own(path), "r+b") as file:
            file.seek(self._told)
            if file.read(len(line)) != line:
                checksum.unlink(missing_ok=True)  # first: it is that of other lines
                file.seek(self._told)
                file.truncate()
                file.write(line)
        self._told += len(line)
        self._hash.update(line)
        written = {"bytes": self._told, "sha256": self._hash.hexdigest()}
        write_file(checksum, json.dumps(written).encode(), durable=False)

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
        if path.parent != self.path:
            make_folder(path.parent)
        write_archive(path, arrays)

    def write_facts(self, method: str, *, is_async: bool) -> None:
        """Write ``method.json``: what the metrics do not tell of a method."""
        make_folder(self.path / slugify(method))
        facts = {"name": method, "is_async": is_async}
        self._write_json(f"{slugify(method)}/method.json", facts)

    def write_method(self, method: str, **archives: Mapping[str, ArrayLike]) -> None:
        """Write what is known of a method.

        Args:
          method: its name; the folder is its slug.
          **archives: arrays by name, by the name of their archive: ``updates``,
            ``lost``, ``timeline``, ``clients``.
        """
        for name, arrays in archives.items():
            self.write_arrays(f"{slugify(method)}/{name}.npz", arrays)

    def drop_archive(self, method: str, name: str) -> None:
        """Remove what an earlier part of the run knew of a method, if it is there."""
        (self.path / slugify(method) / f"{name}.npz").unlink(missing_ok=True)

    def _write_json(self, name: str, content: Any) -> None:
        text = json.dumps(content, indent=2) + "\n"
        write_file(self.path / name, text.encode())
