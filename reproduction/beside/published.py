"""Numbers that others published, and what it takes to meet them.

Only numbers that were read in a table or a file are here; curves have none.

References: the repository of Li et al., "Federated Optimization in Heterogeneous
Networks", MLSys 2020, arXiv 1812.06127 (litian96/FedProx). He et al., "FedML", arXiv
2007.13518, and its repository (FedML-AI/FedML).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedasync_jax.data.synthetic import make_synthetic
from reproduction.beside.methods import MU
from reproduction.beside.runs import PROBLEM

_NUM_DRAWS = 3
AVERAGED = "fedavg:weights=samples"
PROXIMAL = f"fedprox:weights=samples,rho={MU}"
"""FedAvg and FedProx as the FedProx paper runs them: weighted by samples."""

MOST_SAMPLES = 12_000
"""Training samples of a draw at most; about those of the authors'."""
AUTHORS_DRAW = {"num_train": 9600, "largest_test": 662, "num_test": 1084}
"""Of data/synthetic_1_1/data in the FedProx authors' repository: training samples, test
samples of the client that has most of them, and of all."""


class Published(NamedTuple):
    """Numbers whose settings are complete and can be run.

    Attributes:
      slug: name of the folder of its runs.
      source: who published it, and where.
      setting: theirs, in words.
      numbers: what was published, by metric.
      is_bound: whether the number is only said to be exceeded.
      settings: the same for this library, besides the draw of the data.
    """

    slug: str
    source: str
    setting: str
    numbers: Mapping[str, float]
    settings: Mapping[str, Any]
    is_bound: bool = False


def _fedml(alpha: float) -> Published:
    return Published(
        slug=f"fedml-{alpha:g}",
        source="FedML benchmark (arXiv 2007.13518; FedML-AI/FedML, "
        "benchmark/README.md, linear models)",
        setting=f"Synthetic({alpha:g}, {alpha:g}), FedAvg, 10 of 30 clients a round, "
        "1 epoch of batch 10, step size 0.01, more than 200 rounds",
        numbers={"test_accuracy": 0.60},
        is_bound=True,
        settings={
            **PROBLEM,
            "synthetic_alpha": alpha,
            "synthetic_beta": alpha,
            "epochs": 1.0,
            "methods": (AVERAGED,),
            "num_updates": 2000,
        },
    )


def _rerun(
    name: str, rounds: int, line: str, clients: int, accuracy: float, loss: float
) -> Published:
    folder = "results_minibatch25" if rounds == 25 else "results_minibatch200_drop90"
    return Published(
        slug=f"rerun-{name}",
        source="rerun of the FedProx paper's experiment by others "
        f"(AparajeetS/PEA-002-fedprox, {folder}/summary.csv)",
        setting=f"Synthetic(1, 1), the authors' draw, {_name(line)}, "
        f"{clients} of 30 clients a round{_drops(clients)}, 20 epochs of batch 10, "
        f"step size 0.01, {rounds} rounds, one seed",
        numbers={"test_accuracy": accuracy, "test_loss": loss},
        settings={
            **PROBLEM,
            "epochs": 20.0,
            "clients_per_round": clients,
            "methods": (line,),
            "num_updates": clients * rounds,
        },
    )


def _name(line: str) -> str:
    return "FedAvg" if line == AVERAGED else f"FedProx with mu = {MU}"


def _drops(clients: int) -> str:
    return " (nine of ten are dropped as stragglers)" if clients == 1 else ""


PUBLISHED: Sequence[Published] = (
    _fedml(0.0),
    _fedml(0.5),
    _fedml(1.0),
    _rerun("fedavg-25", 25, AVERAGED, 10, 0.616236, 1.619868),
    _rerun("fedprox-25", 25, PROXIMAL, 10, 0.521218, 1.077291),
    _rerun("dropped-25", 25, AVERAGED, 1, 0.436347, 3.887538),
    _rerun("dropped-200", 200, AVERAGED, 1, 0.585793, 3.846509),
)


def write_command(settings: Mapping[str, Any]) -> str:
    """Return the command that runs settings, by their flat names.

    >>> write_command({"dataset": "leaf", "hidden": (), "epochs": 1.0})
    'fedasync train --dataset leaf --hidden --epochs 1'
    """
    words = ["fedasync train"]
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        shown = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
        words += [f"--{name.replace('_', '-')}", *shown]
    return " ".join(words)


class Draw(NamedTuple):
    """A draw of Synthetic(1, 1).

    Attributes:
      seed: of the data.
      num_train: training samples.
      largest_share: share of them that the client with most of them has.
    """

    seed: int
    num_train: int
    largest_share: float


def list_draws() -> list[Draw]:
    """Return the first draws that are no larger than the authors', about."""
    draws: list[Draw] = []
    seed = 0
    while len(draws) < _NUM_DRAWS:
        draw = describe_draw(seed)
        if draw.num_train <= MOST_SAMPLES:
            draws.append(draw)
        seed += 1
    return draws


def describe_draw(seed: int) -> Draw:
    """Return what a draw is like; its sizes do not depend on alpha and beta."""
    owners = make_synthetic(PROBLEM["num_clients"], seed=seed).client_train
    counts = np.bincount(np.asarray(owners))
    return Draw(seed, int(counts.sum()), float(counts.max() / counts.sum()))
