"""The lines of ``metrics.jsonl``: an evaluation, and the updates since the last one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedasync_jax.base import ArrayLike
from fedasync_jax.engine.history import Evaluation, Updates
from fedasync_jax.engine.step_scales import StepScales
from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.scores import name_score
from fedasync_jax.schedule.trace import UNFINISHED, Trace

Row = dict[str, Any]


class MetricsLog:
    """The lines of one method, made as its evaluations come in.

    Attributes:
      rows: the lines so far, by rising version.
      diverged_at: version of the first line by which the last ``max_rejected`` arrivals
        or more were all rejected; None: there is none.
    """

    def __init__(
        self,
        method: Method,
        *,
        step_size: float,
        scales: StepScales | None = None,
        is_text: bool = False,
        max_rejected: int | None = None,
    ):
        """Begin without a line.

        Args:
          method: what is told of.
          step_size: of local SGD, before ``scales``.
          scales: factors on it by version.
          is_text: whether lines have a perplexity.
          max_rejected: see ``diverged_at``; None: any number may be rejected.
        """
        self.rows: list[Row] = []
        self.diverged_at: int | None = None
        self._rejected_in_a_row, self._max_rejected = 0, max_rejected
        self._method, self._is_text = method, is_text
        self._step_size, self._scales = step_size, scales

    def add(self, evaluation: Evaluation, updates: Updates) -> Row:
        """Return the line of an evaluation; ``updates`` are those since the last."""
        version, method = evaluation.version, self._method
        recent = slice(version - len(updates.alpha), version)
        self._note_rejected(np.asarray(updates.applied))
        rejected = self.rows[-1]["rejected"] if self.rows else 0
        scale = self._scales.at(np.array([version]))[0] if self._scales else 1.0
        row = {
            "method": method.name,
            "version": version,
            "updates": version if method.counts_updates else None,
            "gradients": _count_gradients(method, version),
            "virtual_time": _time_of(method, version) if method.has_clock else None,
            "train_loss": _mean(updates.loss),
            "mean_staleness": _mean(method.staleness[recent]),
            "mean_alpha": _mean(updates.alpha),
            "rejected": rejected + int(np.sum(~updates.applied)),
            "lost": _count_lost(method.trace, version),
            **judge(evaluation.metrics, is_text=self._is_text),
            "step_size": self._step_size * float(scale),
        }
        self.rows.append(row)
        if self.diverged_at is None and self._is_hopeless():
            self.diverged_at = version
        return row

    def _note_rejected(self, applied: np.ndarray) -> None:
        accepted = np.flatnonzero(applied)
        before = 0 if len(accepted) else self._rejected_in_a_row
        after_last = int(accepted[-1]) + 1 if len(accepted) else 0
        self._rejected_in_a_row = before + len(applied) - after_last

    def _is_hopeless(self) -> bool:
        limit = self._max_rejected
        return limit is not None and self._rejected_in_a_row >= limit


def judge(metrics: Mapping[str, Any], *, is_text: bool) -> dict[str, float | None]:
    """Return the metrics of a model as they are written down.

    Args:
      metrics: means over the test set: "loss", "correct" of a classifier, and
        "valid_loss" and "valid_correct" where there is a validation set; None where one
        is unknown. Those that begin with "client_" are taken over.
      is_text: whether there is a perplexity, exp(loss).
    """
    loss = float(metrics.get("loss", np.nan))
    correct = metrics.get("correct")
    row = {
        "test_accuracy": None if correct is None else float(correct),
        "test_loss": finite(loss),
    }
    if "valid_loss" in metrics:
        row["valid_loss"] = finite(float(metrics["valid_loss"]))
    if "valid_correct" in metrics:
        row["valid_accuracy"] = float(metrics["valid_correct"])
    of_clients = [name for name in metrics if name.startswith("client_")]
    row |= {name: finite(float(metrics[name])) for name in of_clients}
    if is_text:
        with np.errstate(over="ignore"):
            row["test_perplexity"] = finite(float(np.exp(loss)))
    return row


def score(row: Row) -> float:
    """Return how good a model is, more is better: to choose one, not to publish.

    Minus the validation loss where there is one, else the accuracy on the test set;
    minus the test perplexity of texts, minus the test loss where there is no accuracy.
    What is not known or not finite counts as minus infinity.
    """
    name = "valid_loss" if "valid_loss" in row else f"test_{name_score(row)}"
    value = row[name]
    if value is None:
        return -np.inf
    return value if name == "test_accuracy" else -value


def finite(value: float) -> float | None:
    """Return the value, None if not finite: JSON knows neither NaN nor infinity."""
    return value if np.isfinite(value) else None


def _count_gradients(method: Method, version: int) -> int:
    return round(method.trace.num_steps[:version].sum() * method.gradients_per_step)


def _count_lost(trace: Trace, version: int) -> int:
    """Return how many tasks were lost until a version was made."""
    lost = trace.lost
    until = lost.end_time <= (trace.arrival_time[version - 1] if version else -1.0)
    return int(np.sum(until & (lost.reason != UNFINISHED)))


def _time_of(method: Method, version: int) -> float:
    return float(method.trace.arrival_time[version - 1]) if version else 0.0


def _mean(values: ArrayLike) -> float | None:
    """Return the mean, None if there is none."""
    values = np.asarray(values)
    return finite(float(np.mean(values)) if len(values) else np.nan)
