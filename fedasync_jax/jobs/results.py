"""What ``train`` returns: arrays by method, tables, and a short description."""

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.base import Variables
from fedasync_jax.engine.state import find_evaluated
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.jobs import report
from fedasync_jax.jobs.callbacks import Outcome
from fedasync_jax.jobs.metrics import Row
from fedasync_jax.jobs.scores import format_score, name_score


class MethodResults:
    """What became of one method.

    Attributes:
      name: as it is shown.
      outcome: method, schedule, final state, as the engine left them.
      summary: its line of the table.
    """

    def __init__(self, experiment: Experiment, outcome: Outcome, summary: Row):
        """Hold what a method has left."""
        self.name = outcome.method.name
        self.outcome, self.summary = outcome, summary
        self._experiment = experiment

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """Arrays [E] by name, one entry per evaluation; NaN where there is none.

        ``version``, ``updates``, ``gradients``, ``virtual_time`` (simulated seconds),
        ``test_accuracy``, ``test_loss``, ``train_loss``, ``mean_staleness``,
        ``mean_alpha``, ``rejected``, ``lost``, ``step_size`` and others, as in a line
        of ``metrics.jsonl``.
        """
        rows = self.outcome.rows
        names = [name for name in rows[-1] if name != "method"]
        columns = {name: [row.get(name) for row in rows] for name in names}
        return {name: _to_array(column) for name, column in columns.items()}

    @property
    def arrivals(self) -> dict[str, np.ndarray]:
        """Arrays [T] by name, one entry per arrival: client, staleness, alpha, ..."""
        return report.arrivals(self.outcome)

    @property
    def rows(self) -> list[Row]:
        """Its evaluations, a dict each."""
        return self.outcome.rows

    @property
    def lost(self) -> dict[str, np.ndarray]:
        """Arrays [L] by name, one entry per task that never arrived."""
        return report.lost_tasks(self.outcome.method)

    @property
    def is_async(self) -> bool:
        """Whether its arrivals are mixed one by one, and may be stale."""
        return self.outcome.method.is_async

    @property
    def timeline(self) -> dict[str, np.ndarray] | None:
        """Arrays [N] by name, what some clients did and when; None without a clock."""
        timeline = report.sample_timeline(self._experiment, self.outcome.method)
        return None if timeline is None else timeline._asdict()

    @property
    def client_scores(self) -> dict[str, np.ndarray] | None:
        """Arrays [C] by name: ``loss`` and ``accuracy`` on every client's own data.

        Of the final model; without an accuracy the loss alone. None with
        ``evaluate_clients="never"``.
        """
        scores = self.outcome.client_scores
        return None if scores is None else dict(scores)

    @property
    def variables(self) -> Variables:
        """The final model: what is judged, and what a run folder keeps."""
        return find_evaluated(self.outcome.method.mixer, self.outcome.result.state)

    def __repr__(self) -> str:
        """Return name and score."""
        return f"MethodResults({self.name!r}, {_describe(self.summary)})"


class TrainResults(Mapping[str, MethodResults]):
    """What became of all methods, by name, in the order in which they were asked for.

    ``pandas.DataFrame(results.table())`` is the final table and
    ``pandas.DataFrame(results.metrics())`` all evaluations of all methods.

    Attributes:
      experiment: data, model, fleet and schedules that they shared.
      methods: what became of them, by name.
      outcomes: of the methods that ran to their end.
      diverged: why the others did not, a line each.
      run_dir: where everything was written; None: nowhere.
    """

    def __init__(
        self,
        experiment: Experiment,
        outcomes: Sequence[Outcome],
        summary: Sequence[Row],
        diverged: Sequence[str] = (),
        run_dir: Path | None = None,
    ):
        """Hold what a job has left, see ``jobs.job.Results``."""
        self.experiment, self.run_dir = experiment, run_dir
        self.outcomes, self.diverged = list(outcomes), list(diverged)
        self._summary = summary
        self.methods = {
            outcome.method.name: MethodResults(experiment, outcome, row)
            for outcome, row in zip(outcomes, summary, strict=True)
        }

    @property
    def clients(self) -> dict[str, np.ndarray]:
        """Who has what data: ``num_samples`` [C] and, of classes, ``label_counts``."""
        return report.describe_clients(self.experiment)

    @property
    def settings(self) -> Settings:
        """The settings of all methods."""
        return self.experiment.settings

    def table(self) -> list[Row]:
        """Return the final table, a dict per method, see ``report.summarize``."""
        return [dict(row) for row in self._summary]

    def metrics(self) -> list[Row]:
        """Return a dict per evaluation of every method, with its name as ``method``."""
        return [dict(row) for outcome in self.outcomes for row in outcome.rows]

    def __getitem__(self, name: str) -> MethodResults:
        """Return what became of a method."""
        if name not in self.methods:
            known = ", ".join(self.methods) or "none"
            raise KeyError(f"methods are {known}, got {name!r}")
        return self.methods[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.methods)

    def __len__(self) -> int:
        """Return how many methods ran to their end."""
        return len(self.methods)

    def __repr__(self) -> str:
        """Return a line per method; the arrays would fill pages."""
        where = "in memory" if self.run_dir is None else f"in {self.run_dir}"
        lines = [f"TrainResults of {len(self)} methods, {where}"]
        width = max(map(len, self.methods), default=0)
        for row in self._summary:
            lines.append(f"  {row['method']:<{width}}  {_describe(row)}")
        return "\n".join([*lines, *(f"  {line}" for line in self.diverged)])

    def _repr_html_(self) -> str:
        """Return the table as a notebook shows it."""
        shown = [
            {
                "method": row["method"],
                "devices": _format(row["devices"], ","),
                "gradients": f"{row['gradients']:,}",
                "simulated s": _format(row["virtual_time"], ",.0f"),
                f"test {_score_of(row)}": _format_score(row),
                "mean staleness": _format(row["mean_staleness"], ".1f"),
                "mean alpha": _format(row["mean_alpha"], ".3f"),
            }
            for row in self._summary
        ]
        rows = [list(shown[0])] if shown else []
        rows += [list(row.values()) for row in shown]
        body = "".join(f"<tr>{''.join(map(_make_cell, row))}</tr>" for row in rows)
        notes = "".join(f"<p>{html.escape(line)}</p>" for line in self.diverged)
        return f"<table>{body}</table>{notes}"


def _score_of(row: Row) -> str:
    return name_score(
        {k.removesuffix("_mean"): v for k, v in row.items() if k.endswith("_mean")}
    )


def _format_score(row: Row) -> str:
    name = _score_of(row)
    return format_score(name, row[f"test_{name}_mean"])


def _describe(row: Row) -> str:
    return f"{_score_of(row)} {_format_score(row)} after {row['gradients']:,} gradients"


def _make_cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"


def _format(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _to_array(column: list[Any]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in column])
