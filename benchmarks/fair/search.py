"""What is tried: nine settings for every method, on the default job.

A setting is a line and a step size of the clients. A method with numbers of its own has
three lines, each with three step sizes; one without has a single line and nine. All
methods but one keep ten devices at work. Settings are chosen with some of the training
samples held out and with seeds of their own; what is reported is the job itself.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.sweep import Point
from fedasync_jax.leaderboard.entries import (
    ENTRIES,
    OURS,
    PUBLISHED,
    SYNCHRONOUS,
    Choice,
    Contender,
    list_choices,
)
from fedasync_jax.parts.folder_names import slugify

TUNING_SEEDS = (100, 101, 102)
"""Seeds that settings are chosen with; none of them is reported."""
REPORTED_SEEDS = (0, 1, 2, 3, 4)
VALID_SHARE = 0.2
BASE_STEP = 0.4
"""Step size of the clients at factor 1."""
TARGET = 0.95
"""Accuracy on the test samples that the simulated time to it is told for."""
NUM_TRIES = 9
AT_LENGTH = (1.0, 0.25, 0.375, 0.5, 0.75, 1.5, 2.0, 3.0, 4.0)
"""Factors of a method that has no numbers of its own."""

ALONE = "alone"  # all data on one device

CONTENDERS: Mapping[str, Contender] = {
    "FedAsync constant": ENTRIES["FedAsync constant"],
    "FedAsync polynomial": ENTRIES["FedAsync polynomial"],
    "FedAsync hinge": ENTRIES["FedAsync hinge"],
    "FedBuff": ENTRIES["FedBuff"],
    "delta": ENTRIES["delta"],
    "tethered, average": Contender(OURS, ENTRIES["tethered, average"].lines),
    "FedAvg": Contender(SYNCHRONOUS, ("fedavg:clients=10",), AT_LENGTH),
    "FedAvg by samples": Contender(
        SYNCHRONOUS, ("fedavg:clients=10,weights=samples",), AT_LENGTH
    ),
    "FedAvg, k free": ENTRIES["FedAvg"],
    "FedAvg over-selection": Contender(
        SYNCHRONOUS,
        (
            "fedavg:clients=8,over_selection=0.25",
            "fedavg:clients=7,over_selection=0.4",
            "fedavg:clients=5,over_selection=1",
        ),
    ),
    "FedProx": ENTRIES["FedProx"],
    "SGD": Contender(ALONE, ("sgd:batch_size=10",), AT_LENGTH),
}
"""Who competes; the first line is the untuned one, with the preset's step size."""

DEFAULT_JOB = (
    "FedAsync polynomial",
    "FedBuff",
    "tethered, average",
    "FedAvg",
    "SGD",
)
"""Those that ``fedasync train`` runs, and that share its step size."""

REFERENCE = "FedAvg"
KINDS = {
    PUBLISHED: "asynchronous",
    OURS: "asynchronous, of this project",
    SYNCHRONOUS: "in rounds",
    ALONE: "all data on one device",
}


class Try(NamedTuple):
    """A run of the search or of the report.

    Attributes:
      line: the method.
      factor: on ``BASE_STEP``.
      seed: of everything random.
    """

    line: str
    factor: float
    seed: int


def find_untuned(contender: Contender) -> Choice:
    """Return what is run without a search: its first line, the preset's step size."""
    return Choice(contender.lines[0], make_settings()["step_size"] / BASE_STEP)


def list_search(names: Collection[str], seeds: Sequence[int]) -> list[Try]:
    """Return the runs that settings are chosen by."""
    choices = [c for name in names for c in list_choices(CONTENDERS[name])]
    return [Try(*choice, seed) for choice in dict.fromkeys(choices) for seed in seeds]


def make_try_point(one: Try, out: Path, **fields: Any) -> Point:
    """Return the run folder of a try and its settings.

    Args:
      one: what is run.
      out: folder of the run folders.
      **fields: settings that differ from those of the default job.
    """
    step_size = BASE_STEP * one.factor
    settings = make_settings(
        methods=(one.line,),
        step_size=step_size,
        seed=one.seed,
        evaluate_clients="never",
        stop_after_rejected=None,
        **fields,
    )
    settings = settings.replace(checkpoint_every=settings["num_updates"])
    name = f"step-{step_size:g}-seed-{one.seed}"
    return Point(out / slugify(one.line) / name, settings)
