"""What a checkpoint keeps of a run: its arrays as orbax has them, the rest in its seal.

Shapes: T updates so far, S slots.
"""

import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import PyTree
from fedasync_jax.engine.history import Evaluation, Past, Updates
from fedasync_jax.engine.processes import find_processes
from fedasync_jax.engine.sharing import share_arrays
from fedasync_jax.engine.state import RunState, Snapshot
from fedasync_jax.storage.schema import Json, SealContent, convert

ORBAX = threading.Lock()  # two writers at once mistake each other's folders


def make_content(snapshot: Snapshot) -> tuple[PyTree, Json]:
    """Return the arrays of a run, copied to the host, and what its seal says."""
    arrays = jax.device_get(
        {"state": snapshot.state[1:], "updates": snapshot.past.updates}
    )
    content = {
        "version": snapshot.state.version,
        "evaluations": [
            [version, {name: np.asarray(m).tolist() for name, m in metrics.items()}]
            for version, metrics in snapshot.past.evaluations
        ],
        "slots": len(jax.tree.leaves(snapshot.state.store)[0]),
    }
    return arrays, content


def read_snapshot(folder: Path, state: RunState, content: SealContent) -> Snapshot:
    """Return the run that a checkpoint holds.

    Args:
      folder: of orbax.
      state: a state of the same run, such as the first, for shapes and types. If its
        store has more slots than that of the checkpoint, the others are filled up.
      content: of the seal.

    Raises:
      OSError: if the folder cannot be read.
      ValueError: if it holds arrays of other shapes or types.
    """
    return _make_snapshot(state, _read(folder, _like(state, content)), content)


def share_snapshot(
    found: tuple[Snapshot, Json] | None, state: RunState
) -> tuple[Snapshot, Json] | None:
    """Return in all processes what ``Checkpoints.restore`` found in process 0.

    The arrays travel bit for bit, so that the others need not see its disk.

    Args:
      found: what it returned; None in the other processes.
      state: see ``read_snapshot``.
    """
    processes = find_processes()
    if processes.count == 1:
        return found
    arrays, about = None, None
    if found is not None:
        arrays, content = make_content(found[0])
        about = {**content, "extra": found[1], "files": {}}
    about = processes.lead(lambda: about)
    if about is None:
        return None
    content = convert(about, SealContent, "a checkpoint of process 0")
    arrays = share_arrays(_like(state, content) if arrays is None else arrays)
    return _make_snapshot(state, arrays, content), content.extra


def open_orbax() -> Any:
    """Return what writes and reads folders of orbax; it waits for no other process."""
    import orbax.checkpoint as ocp

    processes = find_processes()
    if processes.count == 1:
        return ocp.StandardCheckpointer()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=processes.index, active_processes={processes.index}
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _like(state: RunState, content: SealContent) -> PyTree:
    """Return shapes and types of a checkpoint's arrays."""
    version, slots = content.version, content.slots
    store = jax.tree.map(
        lambda leaf: np.zeros((slots, *leaf.shape[1:]), leaf.dtype), state.store
    )
    updates = Updates(
        np.zeros(version, np.float32),
        np.zeros(version, bool),
        np.zeros(version, np.float32),
    )
    variables, mixer_state = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        (state.variables, state.mixer_state),
    )
    return {"state": (variables, store, mixer_state), "updates": updates}


def _make_snapshot(state: RunState, arrays: PyTree, content: SealContent) -> Snapshot:
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
        Evaluation(version, {k: _as_metric(v) for k, v in metrics.items()})
        for version, metrics in content.evaluations
    ]
    past = Past(Updates(*arrays["updates"]), evaluations)
    return Snapshot(RunState(content.version, *on_device), past)


def _as_metric(value: Any) -> np.ndarray | np.float32:
    """Return a metric as it was: a number, or an array of any shape."""
    return np.float32(value) if np.ndim(value) == 0 else np.array(value, np.float32)


def _read(folder: Path, like: PyTree) -> PyTree:
    with ORBAX, open_orbax() as reader:
        arrays = jax.tree.map(np.asarray, reader.restore(folder, like))
    for found, wanted in zip(*map(jax.tree.leaves, (arrays, like)), strict=True):
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"an array must be {wanted.dtype} {wanted.shape}, as in this run, "
                f"got {found.dtype} {found.shape}"
            )
    return arrays
