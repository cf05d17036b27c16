"""Checkpoints: everything that a run must not lose, written by orbax beside the run.

``<folder>/<version>/``      the arrays, as orbax writes them
``<folder>/<version>.json``  its seal, written last: checksums of all files of the
                             checkpoint, and what is not an array. What has no seal, or
                             does not match it, is passed over.

Writing goes on in a thread of its own. A checkpoint that is due while one is being
written, or soon after, is left out, so that writing takes a bounded share of the time;
the next one comes all the sooner.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import PyTree
from fedasync_jax.engine import Past, RunState, Snapshot
from fedasync_jax.history import Evaluation, Updates

_SHARE = 0.05  # of the time that writing may take
_SEAL = ".json"


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
        on_skip: Callable[[str], None] = lambda line: None,
    ):
        """Open a folder of checkpoints; it need not exist.

        Args:
          folder: where they are.
          every: versions between checkpoints at the least, >= 1.
          keep: how many of the newest stay.
          on_skip: told of every checkpoint that is passed over, in a line.

        Raises:
          ValueError: if ``every`` or ``keep`` is below 1.
        """
        for name, count in (("every", every), ("keep", keep)):
            if count < 1:
                raise ValueError(f"{name} must be >= 1, got {count}")
        self.folder = Path(folder).absolute()
        self._on_skip = on_skip
        self._every, self._keep = every, keep
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
        """Return whether it is time for a checkpoint of this version."""
        if version < self._newest + self._every or time.monotonic() < self._not_before:
            return False
        return self._writing is None or self._writing.done()

    def save(self, snapshot: Snapshot, extra: dict[str, Any]) -> None:
        """Write a checkpoint in the background.

        Args:
          snapshot: of the run; it is copied before this returns.
          extra: what else to keep, as JSON has it.

        Raises:
          OSError: if the one before could not be written.
        """
        self.wait()
        arrays = jax.device_get(
            {"state": snapshot.state[1:], "updates": snapshot.past.updates}
        )
        content = {
            "version": snapshot.state.version,
            "evaluations": [
                [evaluation.version, _as_floats(evaluation.metrics)]
                for evaluation in snapshot.past.evaluations
            ],
            "extra": extra,
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

    def restore(self, state: RunState) -> tuple[Snapshot, dict[str, Any]] | None:
        """Return the newest intact checkpoint and its ``extra``; None if there is none.

        Args:
          state: a state of the same run, such as the first, for shapes and types. If
            its store has more slots than that of the checkpoint, as that of a longer
            run may, the others are filled up.

        Raises:
          ValueError: if there are checkpoints but none is intact.
        """
        seals = sorted(self.folder.glob(f"*{_SEAL}"), key=lambda p: p.stem.zfill(12))
        for seal in reversed(seals):
            try:
                content = _check_seal(seal)
                arrays = _read(seal.with_suffix(""), _like(state, content))
            except (OSError, ValueError, KeyError) as error:
                line = " ".join(str(error).split())
                self._on_skip(f"checkpoint {seal} is passed over: {line}")
                continue
            self._newest = content["version"]
            return _make_snapshot(state, arrays, content), content["extra"]
        if seals:
            raise ValueError(
                f"{self.folder} must hold an intact checkpoint, got {len(seals)} that "
                "are damaged; remove the folder to begin the method anew"
            )
        return None

    def _write(self, arrays: PyTree, content: dict[str, Any]) -> None:
        import orbax.checkpoint as ocp

        begin = time.monotonic()
        folder = self.folder / str(content["version"])
        seal = folder.with_suffix(_SEAL)
        seal.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with ocp.StandardCheckpointer() as writer:
            writer.save(folder, arrays)
        content |= {"slots": int(jax.tree.leaves(arrays["state"][1])[0].shape[0])}
        content |= {"files": _hash_files(folder)}
        text = json.dumps({"content": content, "sha256": _hash_json(content)})
        scratch = seal.with_suffix(".tmp")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(seal)
        self._drop_old()
        seconds = time.monotonic() - begin
        self._not_before = time.monotonic() + seconds / _SHARE

    def _drop_old(self) -> None:
        versions = sorted(int(seal.stem) for seal in self.folder.glob(f"*{_SEAL}"))
        for version in versions[: -self._keep]:
            # The seal first: what is left after an interruption counts for nothing.
            (self.folder / f"{version}{_SEAL}").unlink(missing_ok=True)
        kept = {str(version) for version in versions[-self._keep :]}
        for folder in self.folder.iterdir():
            if folder.is_dir() and folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _like(state: RunState, content: dict[str, Any]) -> PyTree:
    """Return shapes and types of a checkpoint's arrays."""

    def describe(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree)

    version, slots = content["version"], content["slots"]
    store = jax.tree.map(
        lambda leaf: np.zeros((slots, *leaf.shape[1:]), leaf.dtype), state.store
    )
    updates = Updates(
        np.zeros(version, np.float32),
        np.zeros(version, bool),
        np.zeros(version, np.float32),
    )
    rest = describe((state.variables, state.mixer_state))
    return {"state": (rest[0], store, rest[1]), "updates": updates}


def _make_snapshot(
    state: RunState, arrays: PyTree, content: dict[str, Any]
) -> Snapshot:
    variables, store, mixer_state = arrays["state"]

    def fill_up(saved: np.ndarray, like: Any) -> np.ndarray:
        if len(saved) > len(like):
            raise ValueError(
                f"checkpoint must have {len(like)} slots at most, got {len(saved)}"
            )
        rest = np.zeros((len(like) - len(saved), *saved.shape[1:]), saved.dtype)
        return np.concatenate([saved, rest])

    store = jax.tree.map(fill_up, store, state.store)
    on_device = jax.tree.map(jnp.asarray, (variables, store, mixer_state))
    evaluations = [
        Evaluation(version, {k: np.float32(v) for k, v in metrics.items()})
        for version, metrics in content["evaluations"]
    ]
    past = Past(Updates(*arrays["updates"]), evaluations)
    return Snapshot(RunState(content["version"], *on_device), past)


def _read(folder: Path, like: PyTree) -> PyTree:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        arrays = jax.tree.map(np.asarray, reader.restore(folder, like))
    for found, wanted in zip(*map(jax.tree.leaves, (arrays, like)), strict=True):
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"an array must be {wanted.dtype} {wanted.shape}, as in this run, "
                f"got {found.dtype} {found.shape}"
            )
    return arrays


def _check_seal(seal: Path) -> dict[str, Any]:
    """Return the content of a seal.

    Raises:
      ValueError: if it or a file of its checkpoint is not what was written.
    """
    sealed = json.loads(seal.read_text(encoding="utf-8"))
    content = sealed["content"]
    if _hash_json(content) != sealed["sha256"]:
        raise ValueError(f"{seal.name} must match its own checksum, which it does not")
    found = _hash_files(seal.with_suffix(""))
    wrong = [k for k, v in content["files"].items() if found.get(k) != v]
    if wrong:
        raise ValueError(f"{wrong[0]} must match its checksum, which it does not")
    return content


def _hash_files(folder: Path) -> dict[str, str]:
    """Return checksums by path in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _hash_json(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _as_floats(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
