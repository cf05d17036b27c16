"""The runs of the comparison: which there are, and where each of them lies."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.sweep import Point
from fedasync_jax.storage.read_run import read_metrics
from fedasync_jax.storage.run_folder import Row
from reproduction.beside.methods import (
    CONTESTANTS,
    ROUND,
    SEEDS,
    TUNING_SEEDS,
    Try,
    choose_try,
)

PROBLEM: Mapping[str, Any] = {
    "dataset": "synthetic",
    "partition": "natural",
    "num_clients": 30,
    "synthetic_alpha": 1.0,
    "synthetic_beta": 1.0,
    "model": "mlp",
    "hidden": (),  # the linear model: multinomial logistic regression
    "batch_size": 10,
    "step_size": 0.01,
    "clients_per_round": ROUND,
    "concurrency": ROUND,
    "evaluate_clients": "never",
}
"""What the FedProx paper fixes, and ten devices at a time for all."""

_EPOCHS = 20.0
_FLEET = "stragglers"
_VALID_SHARE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How much is run.

    Attributes:
      num_updates: of a run that is reported.
      num_tuning_updates: of a run that settings are chosen by.
      seeds: that are reported.
      tuning_seeds: that settings are chosen by.
    """

    num_updates: int = 500
    num_tuning_updates: int = 500
    seeds: tuple[int, ...] = SEEDS
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS


class Run(NamedTuple):
    """A run of a method.

    Attributes:
      method: of ``CONTESTANTS``.
      place: of its settings in the method's grid.
      seed: of everything random but the data.
      point: its folder and settings.
    """

    method: str
    place: int
    seed: int
    point: Point


def list_tuning(size: Size, out: Path) -> list[Run]:
    """Return the runs that settings are chosen by: all tries of all methods."""
    return [
        _make_run(out / "tuning", method, place, seed, size.num_tuning_updates)
        for method, contestant in CONTESTANTS.items()
        for place in range(len(contestant.tries))
        for seed in size.tuning_seeds
    ]


def list_reported(size: Size, chosen: Mapping[str, int], out: Path) -> list[Run]:
    """Return the runs that are reported.

    Args:
      size: how much.
      chosen: place of the settings of every method.
      out: folder of all runs.
    """
    return [
        _make_run(out / "reported", method, place, seed, size.num_updates)
        for method, place in chosen.items()
        for seed in size.seeds
    ]


def score_tries(runs: Sequence[Run]) -> dict[str, list[list[float]]]:
    """Return the validation accuracy of every try, one per seed, by method.

    It is the mean of the last quarter of the evaluations.

    Args:
      runs: see ``list_tuning``, all of them at their end.
    """
    scores: dict[str, list[list[float]]] = {
        method: [[] for _ in contestant.tries]
        for method, contestant in CONTESTANTS.items()
    }
    for run in runs:
        values = [row["valid_accuracy"] for row in read_rows(run.point)]
        scores[run.method][run.place].append(mean_of_last_quarter(values))
    return scores


def choose_settings(scores: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, int]:
    """Return the place of the best try of every method."""
    return {method: choose_try(rows) for method, rows in scores.items()}


def read_rows(point: Point) -> Sequence[Row]:
    """Return the evaluations of a run of one method."""
    (rows,) = read_metrics(point.path).values()
    return rows


def mean_of_last_quarter(values: Sequence[float]) -> float:
    """Return the mean of the last quarter of the values, at least of the last one.

    >>> mean_of_last_quarter([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 3.0])
    2.0
    """
    last = values[-max(1, len(values) // 4) :]
    return sum(last) / len(last)


def _make_run(
    folder: Path, method: str, place: int, seed: int, num_updates: int
) -> Run:
    chosen: Try = CONTESTANTS[method].tries[place]
    settings = make_settings(
        fleet=_FLEET,
        **PROBLEM,
        epochs=_EPOCHS,
        valid_share=_VALID_SHARE,
        methods=(chosen.line,),
        rho=chosen.rho,
        num_updates=num_updates,
        eval_every=ROUND,
        seed=seed,
    )
    return Run(
        method, place, seed, Point(folder / chosen.slug / f"seed-{seed}", settings)
    )
