"""Everything that a command may import, imported before the first child."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import orbax.checkpoint  # noqa: F401
import pyarrow.parquet  # noqa: F401
import safetensors.numpy  # noqa: F401
import tensorboardX  # noqa: F401

import fedasync_jax.cli.plot
import fedasync_jax.cli.sweep
import fedasync_jax.cli.train  # noqa: F401
from benchmarks.fuzz.base import Base, run_command
from fedasync_jax.cli.flags import fail
from fedasync_jax.storage.models import load_model, name_leaves
from fedasync_jax.storage.read_run import (
    read_clients,
    read_lost,
    read_metrics,
    read_timeline,
    read_updates,
)

_METHODS = {"fedasync-polynomial-0-5": "FedAsync polynomial(0.5)", "fedavg": "FedAvg"}


def make_work(words: Sequence[str], base: Base) -> Callable[[], None]:
    """Return what a child does: a command, or reading a method's results."""
    if words[0] == "load":
        return functools.partial(_load, Path(words[1]), base)
    return functools.partial(run_command, words)


def _load(folder: Path, base: Base) -> None:
    """Read what a method left, in Python; what is read must be what was written."""
    run, method = folder.parent, _METHODS[folder.name]
    try:
        model = name_leaves(load_model(folder / "model"))
        read_metrics(run)
        read_clients(run)
        for read in (read_updates, read_lost, read_timeline):
            read(run, method)
    except ValueError as error:
        fail(error)
    right = name_leaves(load_model(base.finished / folder.name / "model"))
    same = model.keys() == right.keys() and all(
        np.array_equal(model[name], right[name], equal_nan=True) for name in right
    )
    if not same:
        raise AssertionError("another model than was written")
