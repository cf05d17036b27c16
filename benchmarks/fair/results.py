"""What came of the runs, as records; and what is chosen by them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.fair.search import (
    CONTENDERS,
    DEFAULT_JOB,
    TARGET,
    Try,
    find_untuned,
)
from fedasync_jax.jobs.estimates import Estimate, estimate
from fedasync_jax.jobs.scores import last_trained
from fedasync_jax.leaderboard.entries import Choice, Contender, choose_tuned
from fedasync_jax.storage.read_run import read_metrics
from fedasync_jax.storage.run_folder import Row


class Record(NamedTuple):
    """A run, and what came of it.

    Attributes:
      line: the method, see ``Try``, as ``factor`` and ``seed``.
      factor: on the step size.
      seed: of everything random.
      valid: mean accuracy of the last ten evaluations on the samples that were held
        out; None: none were.
      test: likewise, on the test samples; None: nothing is chosen by it.
      to_target: simulated seconds to the first evaluation that reaches ``TARGET``;
        None: none did.
      time: simulated seconds of the whole run.
      devices: that are at work at a time.
    """

    line: str
    factor: float
    seed: int
    valid: float | None
    test: float | None
    to_target: float | None
    time: float
    devices: int


class Verdict(NamedTuple):
    """Whether one setting beats another, by the same seeds.

    Attributes:
      best: which is better in the mean.
      lead: of the best over the present one, an estimate over seeds; NaN of the same.
      is_sure: whether the interval of the lead lies above 0.
    """

    best: float | str
    lead: Estimate
    is_sure: bool


def read_try(one: Try, path: Path, *, is_search: bool) -> Record:
    """Return what came of a run.

    Args:
      one: what was run.
      path: its run folder.
      is_search: whether validation samples, and not those of the test, are asked.
    """
    (rows,) = read_metrics(path).values()
    (summary,) = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    return Record(
        *one,
        valid=_mean_of_last(rows, "valid_accuracy") if is_search else None,
        test=None if is_search else _mean_of_last(rows, "test_accuracy"),
        to_target=None if is_search else _find_time(rows),
        time=round(rows[-1]["virtual_time"], 1),
        devices=summary["devices"],
    )


def _mean_of_last(rows: Sequence[Row], name: str) -> float:
    return round(float(np.mean([row[name] for row in last_trained(rows)])), 5)


def _find_time(rows: Sequence[Row]) -> float | None:
    reached = (row for row in rows if (row["test_accuracy"] or 0.0) >= TARGET - 1e-6)
    return next((round(row["virtual_time"], 1) for row in reached), None)


class Search:
    """The runs of the search, by what was tried.

    Attributes:
      seeds: that settings are chosen with.
      of_job: methods of the default job that are among them.
    """

    def __init__(self, records: Sequence[Record]):
        """Hold the records; all seeds of them are those of the search."""
        self._valid = {Try(*r[:3]): r.valid for r in records}
        self.seeds = tuple(dict.fromkeys(record.seed for record in records))
        lines = {record.line for record in records}
        self.of_job = [n for n in DEFAULT_JOB if CONTENDERS[n].lines[0] in lines]

    def judge(self, line: str, factor: float, seed: int) -> float:
        """Return the accuracy on validation samples."""
        valid = self._valid[Try(line, factor, seed)]
        assert valid is not None
        return valid

    def mean(self, choice: Choice) -> float:
        """Return its mean over the seeds."""
        return float(np.mean([self.judge(*choice, seed) for seed in self.seeds]))

    def choose(self, contender: Contender) -> Choice:
        """Return the setting of the best mean, of equals the first."""
        return choose_tuned(contender, self.judge, self.seeds)

    def tabulate_steps(self) -> dict[float, np.ndarray]:
        """Return for every step size that the methods of the default job share [M, S].

        M methods at their first lines, S seeds, accuracies on validation samples; the
        key is the factor.
        """
        methods = [CONTENDERS[name] for name in self.of_job]
        shared = set.intersection(*(set(method.factors) for method in methods))
        return {
            factor: np.array(
                [
                    [self.judge(m.lines[0], factor, s) for s in self.seeds]
                    for m in methods
                ]
            )
            for factor in sorted(shared)
        }

    def judge_step(self) -> Verdict:
        """Return the shared step size of the best mean over methods and seeds.

        Every method has its first line. The lead is over the step size of the preset.
        """
        steps = {
            factor: table.mean(axis=0)
            for factor, table in self.tabulate_steps().items()
        }
        best = max(steps, key=lambda factor: steps[factor].mean())
        now = find_untuned(CONTENDERS[self.of_job[0]]).factor
        return _compare(best, steps[best], steps[now])

    def judge_lines(self, factor: float) -> dict[str, Verdict]:
        """Return for every method of the default job the best line at a step size.

        The lead is over its first line.
        """
        verdicts = {}
        for name in self.of_job:
            lines = {
                line: np.array([self.judge(line, factor, s) for s in self.seeds])
                for line in CONTENDERS[name].lines
            }
            best = max(lines, key=lambda line: lines[line].mean())
            first = lines[CONTENDERS[name].lines[0]]
            verdicts[name] = _compare(best, lines[best], first)
        return verdicts


def _compare(best: float | str, ours: np.ndarray, theirs: np.ndarray) -> Verdict:
    lead = estimate(ours - theirs)
    return Verdict(best, lead, bool(lead.low > 0))


class Reported(NamedTuple):
    """What is reported of a setting.

    Attributes:
      choice: the line and the factor.
      accuracy: float [S], on the test samples, by seed.
      to_target: float [S], infinite where the target was not reached.
      time: float [S], simulated seconds of the run.
      devices: at work at a time, the most of all seeds.
    """

    choice: Choice
    accuracy: np.ndarray
    to_target: np.ndarray
    time: np.ndarray
    devices: int


def collect_reported(records: Sequence[Record], choice: Choice) -> Reported:
    """Return the records of a choice, by rising seed."""
    own = sorted((r for r in records if r[:2] == choice), key=lambda r: r.seed)
    return Reported(
        choice,
        np.array([r.test for r in own]),
        np.array([np.inf if r.to_target is None else r.to_target for r in own]),
        np.array([r.time for r in own]),
        max(r.devices for r in own),
    )


def list_reports(
    search: Search, names: Sequence[str], seeds: Sequence[int]
) -> list[Try]:
    """Return the runs that are reported: every method untuned, and as it was chosen."""
    choices = [
        choice
        for name in names
        for choice in (find_untuned(CONTENDERS[name]), search.choose(CONTENDERS[name]))
    ]
    return [Try(*choice, seed) for choice in dict.fromkeys(choices) for seed in seeds]


def pair_reported(
    search: Search, names: Sequence[str], records: Sequence[Record]
) -> Mapping[str, tuple[Reported, Reported]]:
    """Return what is reported of every method, untuned and tuned."""
    return {
        name: (
            collect_reported(records, find_untuned(CONTENDERS[name])),
            collect_reported(records, search.choose(CONTENDERS[name])),
        )
        for name in names
    }
