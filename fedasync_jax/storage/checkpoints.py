"""Checkpoints: everything that a run must not lose, written by orbax beside the run.

``<folder>/<version>/``      the arrays, as orbax writes them
``<folder>/<version>.json``  its seal, written last: see ``checksums``. What has no
                             seal, or does not match it, is passed over.

The newest few stay, and the one with the highest score. Writing goes on in a thread of
its own. A checkpoint that is due while one is being written, or soon after, is left
out, so that writing takes a bounded share of the time; the next one comes all the
sooner.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedasync_jax.base import PyTree
from fedasync_jax.engine.state import RunState, Snapshot
from fedasync_jax.storage.checksums import (
    check_seal,
    find_best,
    find_scores,
    find_versions,
    seal_of,
    write_seal,
)
from fedasync_jax.storage.fingerprint import Fingerprint
from fedasync_jax.storage.orbax_folders import is_orbax, list_foreign, remove_orbax
from fedasync_jax.storage.schema import SealContent
from fedasync_jax.storage.snapshots import (
    ORBAX,
    make_content,
    open_orbax,
    read_snapshot,
)
from fedasync_jax.storage.writing import check_room


class Checkpoints:
    """The checkpoints of one method in one run.

    Attributes:
      folder: where they are.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int,
        keep: int = 3,
        share: float = 0.05,
        on_skip: Callable[[str], None] = lambda line: None,
        fingerprint: Fingerprint | None = None,
        method: str = "",
    ):
        """Open a folder of checkpoints; it need not exist.

        Args:
          folder: where they are.
          every: versions between checkpoints at the least, >= 1.
          keep: how many of the newest stay, besides the best.
          share: of the time that writing may take, in (0, 1].
          on_skip: told of every checkpoint that is passed over, in a line.
          fingerprint: what decides the results of the run; default: nothing is asked.
          method: whose checkpoints they are, for the fingerprint.

        Raises:
          ValueError: if ``every`` or ``keep`` is below 1, or ``share`` not in (0, 1].
        """
        for name, count in (("every", every), ("keep", keep)):
            if count < 1:
                raise ValueError(f"{name} must be >= 1, got {count}")
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}")
        self.folder = Path(folder).absolute()
        self._on_skip = on_skip
        self._fingerprint, self._method = fingerprint, method
        self._every, self._keep, self._share = every, keep, share
        self._newest = 0
        self._writing: Future[None] | None = None
        self._not_before = 0.0
        self._executor = ThreadPoolExecutor(1)

    def __enter__(self) -> "Checkpoints":
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for the one that is being written."""
        self._executor.shutdown()

    def is_due(self, version: int) -> bool:
        """Return whether it is time for a checkpoint of this version.

        Raises:
          OSError: if the one before could not be written.
        """
        if self._writing is not None and self._writing.done():
            self._writing.result()
        if version < self._newest + self._every or time.monotonic() < self._not_before:
            return False
        return self._writing is None or self._writing.done()

    def save(
        self, snapshot: Snapshot, extra: dict[str, Any], *, score: float = 0.0
    ) -> None:
        """Write a checkpoint in the background.

        Args:
          snapshot: of the run; it is copied before this returns.
          extra: what else to keep, as JSON has it.
          score: how good it is, more is better.

        Raises:
          OSError: if the one before could not be written.
        """
        self.wait()
        arrays, content = make_content(snapshot)
        content |= {
            "score": score if np.isfinite(score) else None,
            "extra": extra,
            "fingerprint": self._fingerprint
            and self._fingerprint.at(self._method, snapshot.state.version),
        }
        self._newest = snapshot.state.version
        self._writing = self._executor.submit(self._write, arrays, content)

    def wait(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
          OSError: if it could not be written.
        """
        if self._writing is not None:
            self._writing.result()

    def restore(
        self,
        state: RunState,
        version: int | None = None,
        *,
        prefer: Callable[[int], bool] = lambda version: True,
    ) -> tuple[Snapshot, dict[str, Any]] | None:
        """Return the newest intact checkpoint and its ``extra``; None if there is none.

        Args:
          state: a state of the same run, such as the first, for shapes and types. If
            its store has more slots than that of the checkpoint, as that of a longer
            run may, the others are filled up.
          version: only this one, see ``find_scores``.
          prefer: of two intact versions, one that this holds of comes first.

        Raises:
          ValueError: if there are checkpoints but none is intact, or they are of
            another run, in a line that says what differs.
        """
        versions = [v for v in find_versions(self.folder) if version in (None, v)]
        of_another = None
        for newest in sorted(versions, key=lambda v: (prefer(v), v), reverse=True):
            folder = self.folder / str(newest)
            try:
                content = check_seal(folder)
                difference = self._compare(content)
                if difference is not None:
                    of_another = of_another or difference
                    continue  # the end of a shorter run cuts its last task
                snapshot = read_snapshot(folder, state, content)
            except (OSError, ValueError, KeyError) as error:
                line = " ".join(str(error).split())
                self._on_skip(f"checkpoint {folder} is passed over: {line}")
                continue
            self._newest = newest
            return snapshot, content.extra
        if of_another is not None:
            raise ValueError(
                f"{self.folder} must hold checkpoints of this run, but they have "
                f"{of_another}"
            )
        if versions:
            raise ValueError(
                f"{self.folder} must hold an intact checkpoint, got {len(versions)} "
                "that are damaged; remove the folder to begin the method anew"
            )
        return None

    def _compare(self, content: SealContent) -> str | None:
        """Return what differs from the run that wrote a seal, in words."""
        if self._fingerprint is None or content.fingerprint is None:
            return None
        return self._fingerprint.find_difference(content.fingerprint)

    def _write(self, arrays: PyTree, content: dict[str, Any]) -> None:
        begin = time.monotonic()
        folder = self.folder / str(content["version"])
        try:
            self._write_files(folder, arrays, content)
        except Exception as error:  # a full disk has many names in the layers below
            words = getattr(error, "strerror", None) or str(error)
            reason = " ".join(words.split()).split('": ')[-1].split(" [")[0]
            raise OSError(
                f"checkpoint {folder} could not be written ({reason}); those before it "
                "are kept"
            ) from error
        self._drop_old()
        seconds = time.monotonic() - begin
        self._not_before = time.monotonic() + seconds / self._share

    def _write_files(
        self, folder: Path, arrays: PyTree, content: dict[str, Any]
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not is_orbax(folder):
            raise ValueError(f"{folder} exists and was not made by a run")
        seal_of(folder).unlink(missing_ok=True)
        remove_orbax(folder)
        foreign = list_foreign(folder)
        if foreign:
            raise ValueError(f"{foreign[0]} exists and was not made by a run")
        check_room(folder, sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)))
        with ORBAX, open_orbax() as writer:
            writer.save(folder, arrays)
        write_seal(folder, content)

    def _drop_old(self) -> None:
        scores = find_scores(self.folder)
        kept = {*sorted(scores)[-self._keep :], find_best(scores)}
        for version in scores.keys() - kept:
            # The seal first: what is left after an interruption counts for nothing.
            seal_of(self.folder / str(version)).unlink(missing_ok=True)
        for folder in self.folder.iterdir():
            version = folder.name.split(".")[0]  # orbax adds to it while it writes
            if version.isdecimal() and int(version) not in kept and is_orbax(folder):
                remove_orbax(folder)
