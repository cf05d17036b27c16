"""How far a method is behind the best one of each cell: its regret.

The regret of a method in a cell is r = a* - a, a being its test accuracy and a* that of
the best tuned published rule of this cell, chosen with hindsight by the mean over the
seeds. It is negative where the method is better. The choice favours a*, by about the
noise of a mean.

Shapes: C cells, S seeds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fedasync_jax.jobs.estimates import Estimate, estimate
from fedasync_jax.leaderboard.board import Cell
from fedasync_jax.leaderboard.entries import (
    PUBLISHED,
    TUNING_SEEDS,
    Choice,
    Contender,
    choose_tuned,
    list_choices,
)
from fedasync_jax.leaderboard.results import Ran


class Final(NamedTuple):
    """What is reported of a method, untuned or tuned, in all cells that are done.

    Attributes:
      accuracy: float [C, S], on the test samples.
      time: float [C], median over the seeds of the simulated seconds to the target;
        infinite where half of them do not reach it.
      choices: [C], the line and the step size that were run.
    """

    accuracy: np.ndarray
    time: np.ndarray
    choices: list[Choice]


class Finals(NamedTuple):
    """All methods in the cells in which all of them were run.

    Attributes:
      cells: [C].
      untuned: by name of the entry.
      tuned: likewise.
    """

    cells: list[Cell]
    untuned: Mapping[str, Final]
    tuned: Mapping[str, Final]


class Standing(NamedTuple):
    """A line of the table of regrets.

    Attributes:
      mean: of the regret over cells, in accuracy, with its interval over seeds.
      worst: the largest mean regret of a cell.
      worst_cell: which.
      slowdown: geometric mean over cells of the time to the target, as a multiple of
        that of the fastest tuned published rule, of cells where both reach it; None:
        there is none.
      reached: cells in which it reaches the target.
    """

    mean: Estimate
    worst: float
    worst_cell: Cell
    slowdown: float | None
    reached: int


def collect_finals(
    task: str,
    entries: Mapping[str, Contender],
    results: Sequence[Ran],
    seeds: Sequence[int],
) -> Finals:
    """Return what is reported of every entry, of cells in which all were run.

    Args:
      task: whose results they are.
      entries: who competes.
      results: all runs of the task.
      seeds: that are reported.
    """
    by_cell: dict[Cell, dict[tuple, Ran]] = {}
    for ran in results:
        cell = Cell(task, ran.fleet, ran.in_flight, ran.variant)
        by_cell.setdefault(cell, {})[ran.line, ran.factor, ran.seed] = ran
    rows: dict[Cell, dict[str, tuple[Choice, Choice]]] = {}
    for cell, ran in by_cell.items():
        chosen = {name: _choose(entry, ran, seeds) for name, entry in entries.items()}
        complete = {name: pair for name, pair in chosen.items() if pair is not None}
        if len(complete) == len(entries):
            rows[cell] = complete
    cells = list(rows)

    def collect(name: str, place: int) -> Final:
        choices = [rows[cell][name][place] for cell in cells]
        runs = [
            [by_cell[cell][(*choice, seed)] for seed in seeds]
            for cell, choice in zip(cells, choices, strict=True)
        ]
        accuracy = [[ran.test_accuracy for ran in row] for row in runs]
        times = [
            [np.inf if r.time_to_target is None else r.time_to_target for r in row]
            for row in runs
        ]
        return Final(np.array(accuracy), np.median(times, axis=1), choices)

    if not cells:
        return Finals([], {}, {})
    untuned = {name: collect(name, 0) for name in entries}
    tuned = {name: collect(name, 1) for name in entries}
    return Finals(cells, untuned, tuned)


def _choose(
    entry: Contender, ran: Mapping[tuple, Ran], seeds: Sequence[int]
) -> tuple[Choice, Choice] | None:
    """Return the untuned and the tuned setting; None if a run is missing."""
    choices = list_choices(entry)
    tuning = [[(*choice, seed) for seed in TUNING_SEEDS] for choice in choices]
    if not all(key in ran for keys in tuning for key in keys):
        return None
    tuned = choose_tuned(entry, lambda *one: ran[one].valid_accuracy)
    pair = choices[0], tuned
    done = all((*choice, seed) in ran for choice in pair for seed in seeds)
    return pair if done else None


def find_winners(finals: Finals, names: list[str]) -> list[str]:
    """Return the best tuned entry of every cell, among ``names``."""
    means = [finals.tuned[name].accuracy.mean(axis=1) for name in names]
    return [names[place] for place in np.argmax(means, axis=0)]


def list_published(entries: Mapping[str, Contender]) -> list[str]:
    """Return the names of the asynchronous rules as they were published."""
    return [name for name, entry in entries.items() if entry.kind == PUBLISHED]


def stand(finals: Finals, published: list[str], final: Final) -> Standing:
    """Return where a method stands.

    Args:
      finals: of all.
      published: names of the rules that it is measured against.
      final: of the method.
    """
    best = find_winners(finals, published)
    reference = np.stack(
        [finals.tuned[name].accuracy[cell] for cell, name in enumerate(best)]
    )
    regret = reference - final.accuracy
    of_cells = regret.mean(axis=1)
    worst = int(np.argmax(of_cells))
    fastest = np.min([finals.tuned[name].time for name in published], axis=0)
    both = np.isfinite(fastest) & np.isfinite(final.time)
    ratios = final.time[both] / fastest[both]
    return Standing(
        mean=estimate(regret.mean(axis=0)),
        worst=float(of_cells[worst]),
        worst_cell=finals.cells[worst],
        slowdown=float(np.exp(np.mean(np.log(ratios)))) if both.any() else None,
        reached=int(np.isfinite(final.time).sum()),
    )
