"""What rules are compared on: tasks, fleets, tasks in flight, heterogeneity.

A cell is one of each. In all cells every method makes the same number of client
updates, and so of gradients.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.experiment.presets import FLEETS, make_settings
from fedasync_jax.experiment.settings import Settings

NUM_LAST = 3  # evaluations whose mean is the final accuracy

_FLEETS: Mapping[str, Mapping[str, Any]] = {
    "stragglers": FLEETS["stragglers"].fields,
    "log-normal": {"client_law": "log-normal", "client_sigma": 1.0},
    "mobile": FLEETS["mobile"].fields,
}


class BoardTask(NamedTuple):
    """A learning problem.

    Attributes:
      title: for people.
      fields: settings that are not the default, by their flat names.
      variants: degrees of heterogeneity, likewise, by name.
      in_flight: tasks under way at a time, in turn.
      target: accuracy that the simulated time to it is measured for.
      needs_data: whether it needs a ``data_path``.
    """

    title: str
    fields: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    target: float
    in_flight: Sequence[int] = (5, 20, 80)
    needs_data: bool = False


class Cell(NamedTuple):
    """Where methods are compared.

    Attributes:
      task: one of ``TASKS``.
      fleet: stragglers, log-normal or mobile.
      in_flight: tasks under way at a time.
      variant: one of the task's.
    """

    task: str
    fleet: str
    in_flight: int
    variant: str


# Drawn with replacement, batches do not depend on the size of the largest client, and
# all cells of a task share the compiled programs.
_COMMON = {
    "num_updates": 1500,
    "eval_every": 100,
    "sampling": "replacement",
    "valid_share": 0.2,
}

_DIRICHLET: Mapping[str, Mapping[str, Any]] = {
    "IID": {"partition": "iid"},
    "Dirichlet 0.3": {"partition": "dirichlet", "concentration": 0.3},
    "Dirichlet 0.1": {"partition": "dirichlet", "concentration": 0.1},
}

TASKS: Mapping[str, BoardTask] = {
    "digits": BoardTask(
        "handwritten digits, a network with 64 hidden units",
        {"step_size": 0.4},
        _DIRICHLET,
        target=0.92,
    ),
    "synthetic": BoardTask(
        "Synthetic(alpha, beta) of the FedProx paper, logistic regression (convex)",
        {
            "dataset": "synthetic",
            "partition": "natural",
            "hidden": (),
            "step_size": 0.4,
        },
        {
            "alike": {"synthetic_iid": True},
            "(0.5, 0.5)": {"synthetic_alpha": 0.5, "synthetic_beta": 0.5},
            "(1, 1)": {"synthetic_alpha": 1.0, "synthetic_beta": 1.0},
        },
        target=0.65,
    ),
    "cifar10": BoardTask(
        "CIFAR-10 at 8 by 8 pixels, a network with two small convolutions",
        {
            "dataset": "cifar10",
            "cifar10_pool": 3,
            "model": "cnn",
            "features": (8, 8),
            "step_size": 0.2,
            "valid_share": 0.04,
            "num_updates": 1000,
        },
        {"Dirichlet 0.3": _DIRICHLET["Dirichlet 0.3"]},
        target=0.33,
        in_flight=(20,),
        needs_data=True,
    ),
}


def list_cells(task: str) -> list[Cell]:
    """Return the cells of a task, in their order."""
    return [
        Cell(task, fleet, count, variant)
        for fleet in _FLEETS
        for count in TASKS[task].in_flight
        for variant in TASKS[task].variants
    ]


def make_cell_settings(
    cell: Cell, *, seed: int, factor: float = 1.0, data_path: Path | None = None
) -> Settings:
    """Return the settings of a cell, for any methods.

    Args:
      cell: where.
      seed: of everything random.
      factor: on the step size of the task.
      data_path: of tasks that need one.
    """
    fields = _collect_fields(cell)
    fields["step_size"] *= factor
    return make_settings(
        data_path=data_path, seed=seed, stop_after_rejected=None, **fields
    )


def _collect_fields(cell: Cell) -> dict[str, Any]:
    task = TASKS[cell.task]
    return {
        **_COMMON,
        **_FLEETS[cell.fleet],
        **task.fields,
        **task.variants[cell.variant],
        "concurrency": cell.in_flight,
    }


def find_protocol(task: str) -> str:
    """Return what changes when the settings of a task do, 8 characters."""
    fields = [_collect_fields(cell) for cell in list_cells(task)]
    text = json.dumps([fields, TASKS[task].target, NUM_LAST], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
