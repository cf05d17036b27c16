"""Who competes: a line that is run untuned, and a grid that is tuned over.

Every entry has three lines, and each is tried with three step sizes of the clients, so
that all are tuned with the same care: nine settings for each, in every cell. Rules with
a model per client are not among them, as they take many times as long; they can be
entered.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

PUBLISHED, SYNCHRONOUS, AVERAGED = "published", "synchronous", "averaged"
OURS, OWN = "ours", "own"

STEP_FACTORS = (0.5, 1.0, 2.0)
"""Factors on the step size of a task that are tried when a method is tuned."""
TUNING_SEEDS = (100, 101)
"""Seeds that settings are chosen with; none of them is reported."""


class Contender(NamedTuple):
    """A method that competes.

    Attributes:
      kind: published: an asynchronous rule as it was published; synchronous: a baseline
        in rounds; averaged: a published rule whose average of models is judged; ours:
        of this project; own: of the user.
      lines: of methods, see ``experiment.method_names``; the first is run untuned.
      factors: on the step size of the clients, which every line is tried with.
    """

    kind: str
    lines: Sequence[str]
    factors: Sequence[float] = STEP_FACTORS


class Choice(NamedTuple):
    """What won the tuning of an entry in a cell."""

    line: str
    factor: float


def _over(line: str, *settings: str) -> list[str]:
    return [f"{line}{text}" for text in settings]


_FEDASYNC = ("alpha=0.6", "alpha=0.9", "alpha=0.3")

ENTRIES: Mapping[str, Contender] = {
    "FedAsync constant": Contender(
        PUBLISHED, _over("fedasync:staleness=constant,", *_FEDASYNC)
    ),
    "FedAsync polynomial": Contender(
        PUBLISHED, _over("fedasync:staleness=polynomial,", *_FEDASYNC)
    ),
    "FedAsync hinge": Contender(
        PUBLISHED,
        _over(
            "fedasync:staleness=hinge,",
            "alpha=0.6,a=10,b=4",
            "alpha=0.9,a=10,b=4",
            "alpha=0.9,a=1,b=4",
        ),
    ),
    "delta": Contender(PUBLISHED, _over("delta:step=", "0.1", "0.2", "0.05")),
    "delta polynomial": Contender(
        PUBLISHED, _over("delta:staleness=polynomial,step=", "0.8", "0.4", "0.2")
    ),
    "FedBuff": Contender(
        PUBLISHED,
        _over("fedbuff:", "size=10,step=1", "size=5,step=1", "size=10,step=2"),
    ),
    "delay-adaptive": Contender(
        PUBLISHED, _over("delay-adaptive:step=", "0.1", "0.2", "0.05")
    ),
    "cut-off": Contender(
        PUBLISHED,
        _over(
            "cutoff:", "step=0.1,limit=32", "step=0.2,limit=32", "step=0.2,limit=128"
        ),
    ),
    "AsyncFedED": Contender(
        PUBLISHED, _over("asyncfeded:eps=1,step=", "0.5", "0.2", "1")
    ),
    "server momentum": Contender(
        PUBLISHED,
        _over("server:optimizer=momentum,momentum=0.9,step=", "0.02", "0.05", "0.01"),
    ),
    "FADAS": Contender(
        PUBLISHED, _over("fadas:size=10,step=", "0.01", "0.03", "0.003")
    ),
    "FedAvg": Contender(SYNCHRONOUS, _over("fedavg:clients=", "10", "20", "5")),
    "FedAvg over-selection": Contender(
        SYNCHRONOUS,
        _over(
            "fedavg:",
            "clients=10,over_selection=0.3",
            "clients=10,over_selection=1",
            "clients=5,over_selection=1",
        ),
    ),
    "FedProx": Contender(
        SYNCHRONOUS, _over("fedprox:clients=10,rho=", "0.01", "0.1", "1")
    ),
    "FedAsync polynomial, average": Contender(
        AVERAGED, _over("fedasync:staleness=polynomial,average=9,", *_FEDASYNC)
    ),
    "delta, average": Contender(
        AVERAGED, _over("delta:average=9,step=", "0.1", "0.2", "0.05")
    ),
    "FedBuff, average": Contender(
        AVERAGED,
        _over(
            "fedbuff:average=9,", "size=10,step=1", "size=5,step=1", "size=10,step=2"
        ),
    ),
    "AsyncFedED, average": Contender(
        AVERAGED, _over("asyncfeded:average=9,eps=1,step=", "0.5", "0.2", "1")
    ),
    "tethered, average": Contender(
        OURS, _over("tethered:average=9,", "reach=4", "reach=8", "reach=2")
    ),
}


def list_choices(entry: Contender) -> list[Choice]:
    """Return the settings that an entry is tuned over, the untuned one first."""
    choices = [Choice(line, factor) for line in entry.lines for factor in entry.factors]
    return sorted(choices, key=lambda c: (c.line != entry.lines[0], c.factor != 1.0))


def choose_tuned(
    entry: Contender,
    valid_accuracy: Callable[[str, float, int], float],
    seeds: Sequence[int] = TUNING_SEEDS,
) -> Choice:
    """Return the setting of the best mean over the tuning seeds, of equals the first.

    Args:
      entry: who is tuned.
      valid_accuracy: of a line, a factor and a seed.
      seeds: that it is chosen with.
    """

    def judge(choice: Choice) -> float:
        return float(np.mean([valid_accuracy(*choice, s) for s in seeds]))

    return max(list_choices(entry), key=judge)
