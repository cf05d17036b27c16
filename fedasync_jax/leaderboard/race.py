"""Run the methods of a cell: tune on validation samples, then run the winner.

The step size and the line of an entry are chosen by the mean validation accuracy over
seeds of their own; what is reported is the test accuracy with other seeds.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.jobs.callbacks import Outcome
from fedasync_jax.jobs.runner import (
    can_run_together,
    choose_run_batching,
    run_together,
)
from fedasync_jax.jobs.session import Entry
from fedasync_jax.leaderboard.board import (
    NUM_LAST,
    TASKS,
    Cell,
    make_cell_settings,
)
from fedasync_jax.leaderboard.entries import (
    Choice,
    Contender,
    choose_tuned,
)
from fedasync_jax.leaderboard.results import Ran
from fedasync_jax.schedule.trace import widen_store

_TOGETHER = 18  # runs in a program


class Try(NamedTuple):
    """A run that is asked for.

    Attributes:
      line: the method.
      factor: on the step size of the task.
      seed: of everything random.
    """

    line: str
    factor: float
    seed: int


class Race:
    """The runs of a cell, those that were made before among them."""

    def __init__(
        self,
        cell: Cell,
        lines: Sequence[str],
        known: Mapping[tuple, Ran],
        *,
        protocol: str,
        data_path: Path | None,
    ):
        """Begin.

        Args:
          cell: where.
          lines: all that may be asked for; they share what is built.
          known: runs that were made before, by ``Ran.key``.
          protocol: see ``find_protocol``.
          data_path: of tasks that need one.
        """
        self._cell, self._lines, self._protocol = cell, tuple(lines), protocol
        self._data_path = data_path
        self._ran = {
            Try(key[3], key[4], key[5]): ran
            for key, ran in known.items()
            if key[:3] == cell[1:]
        }
        self._build = functools.lru_cache(maxsize=32)(self._build_anew)

    def run(self, tries: Sequence[Try]) -> Iterator[Ran]:
        """Run what has not been run, and yield it."""
        missing = [one for one in dict.fromkeys(tries) if one not in self._ran]
        for group in self._gather(missing):
            for one, ran in self._run_group(group):
                self._ran[one] = ran
                yield ran

    def choose(self, entry: Contender) -> Choice:
        """Return the winner on the validation samples, of runs that were made."""
        return choose_tuned(entry, lambda *one: self._ran[Try(*one)].valid_accuracy)

    def _gather(self, tries: Sequence[Try]) -> Iterator[list[tuple[Try, Entry]]]:
        """Yield runs that can share a program."""
        groups: list[list[tuple[Try, Entry]]] = []
        for one in tries:
            experiment = self._build(one.factor, one.seed)
            method = experiment.methods[self._lines.index(one.line)]
            session = Entry(experiment, method)
            fitting = (g for g in groups if can_run_together(g[0][1], session))
            group = next(fitting, None)
            if group is None:
                group = []
                groups.append(group)
            group.append((one, session))
            if len(group) == _TOGETHER:
                groups.remove(group)
                yield group
        yield from groups

    def _run_group(
        self, group: Sequence[tuple[Try, Entry]]
    ) -> Iterator[tuple[Try, Ran]]:
        batching = choose_run_batching(group[0][1])
        width = 1 if batching.one_at_a_time else batching.max_width
        outcomes = run_together(
            [session for _, session in group],
            batching=dataclasses.replace(batching, min_width=width),
        )
        for (one, _), outcome in zip(group, outcomes, strict=True):
            assert isinstance(outcome, Outcome)  # nothing stops them early
            yield one, self._sum_up(one, outcome)

    def _sum_up(self, one: Try, outcome: Outcome) -> Ran:
        rows, target = outcome.rows, TASKS[self._cell.task].target
        last = rows[-NUM_LAST:]
        reached = (
            round(row["virtual_time"], 3)
            for row in rows
            if row["test_accuracy"] >= target
        )
        return Ran(
            self._protocol,
            *self._cell[1:],
            *one,
            updates=rows[-1]["updates"],
            valid_accuracy=_mean([row["valid_accuracy"] for row in last]),
            test_accuracy=_mean([row["test_accuracy"] for row in last]),
            time_to_target=next(reached, None),
            virtual_time=round(rows[-1]["virtual_time"], 3),
        )

    def _build_anew(self, factor: float, seed: int) -> Experiment:
        settings = make_cell_settings(
            self._cell, seed=seed, factor=factor, data_path=self._data_path
        )
        experiment = build_experiment(settings.replace(methods=self._lines))
        # Stores of one size, so that cells share compiled programs.
        for number, method in enumerate(experiment.methods):
            slots = settings.partition.num_clients + 1
            trace = widen_store(method.trace, max(slots, method.trace.num_slots))
            experiment.methods[number] = method._replace(trace=trace)
        return experiment


def list_tries(choices: Sequence[Choice], seeds: Sequence[int]) -> list[Try]:
    """Return the runs of settings with seeds."""
    return [Try(*choice, seed) for choice in choices for seed in seeds]


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 6)
