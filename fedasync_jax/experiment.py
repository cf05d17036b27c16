"""From settings to runs: names and numbers become objects, and methods are compared.

All methods of an experiment share data, model, initial values, fleet and number of
gradients, and run in the same engine.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedasync_jax import data, models
from fedasync_jax.base import ArrayLike, Model, Variables
from fedasync_jax.batching import Batching
from fedasync_jax.config import Settings
from fedasync_jax.engine import RunResult, run
from fedasync_jax.evaluation import make_evaluate
from fedasync_jax.history import Evaluation, Updates
from fedasync_jax.methods import Method, make_methods

_TOO_LITTLE = 0.05  # a weight s(d) below which an arrival hardly counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that is built before the first method runs.

    Attributes:
      settings: what it was built from.
      dataset: train and test samples.
      partition: who owns which train samples.
      model: what is trained.
      variables: x_0, the same for all methods.
      evaluate: test metrics of a model.
      methods: in the order of the settings.
    """

    settings: Settings
    dataset: data.Dataset
    partition: data.Partition
    model: Model
    variables: Variables
    evaluate: Callable[[Variables], dict[str, Any]]
    methods: list[Method]


class Outcome(NamedTuple):
    """A method that has run.

    Attributes:
      method: the method.
      result: final state, updates and evaluations.
      rows: the metrics, as in ``metrics.jsonl``.
      wall_seconds: from its first compilation to its last evaluation.
    """

    method: Method
    result: RunResult
    rows: list[dict[str, Any]]
    wall_seconds: float


def build(settings: Settings) -> Experiment:
    """Build an experiment; reads data and makes schedules, compiles nothing large.

    Raises:
      ValueError: if the data are bad or do not fit the settings.
    """
    dataset = data.load_dataset(settings.dataset, settings.data_path)
    partition = data.make_partition(
        settings.partition,
        dataset.y_train,
        settings.num_clients,
        concentration=settings.concentration,
        shards_per_client=settings.shards_per_client,
        sigma=settings.size_sigma,
        rng=settings.make_rng("partition"),
    )
    model = models.make_classifier(
        settings.model,
        dataset.x_train.shape[1:],
        dataset.num_classes,
        hidden=settings.hidden,
    )
    samples = {"x": dataset.x_train, "y": dataset.y_train}
    test = {"x": dataset.x_test, "y": dataset.y_test}
    clients = jax.device_put(data.make_client_data(samples, partition))
    return Experiment(
        settings=settings,
        dataset=dataset,
        partition=partition,
        model=model,
        variables=jax.jit(model.init)(settings.make_key("init")),
        evaluate=make_evaluate(model, test),
        methods=list(make_methods(settings, model, clients)),
    )


def run_method(
    experiment: Experiment,
    method: Method,
    *,
    batching: Batching | None = None,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Outcome:
    """Run one method.

    Args:
      experiment: what it belongs to.
      method: one of ``experiment.methods``.
      batching: see ``engine.run``.
      on_row: called with every line of metrics as soon as it is there.
    """
    rows: list[dict[str, Any]] = []
    begin = time.perf_counter()

    def add_row(evaluation: Evaluation, updates: Updates) -> None:
        rejected = rows[-1]["rejected"] if rows else 0
        row = _make_row(method, evaluation, updates, rejected)
        row["wall_seconds"] = time.perf_counter() - begin
        rows.append(row)
        on_row(row)

    result = run(
        method.trace,
        method.local_update,
        method.mixer,
        experiment.variables,
        experiment.settings.make_key("tasks"),
        batching=batching,
        evaluate_fn=experiment.evaluate,
        eval_every=method.eval_every,
        callback=add_row,
    )
    return Outcome(method, result, rows, time.perf_counter() - begin)


def summarize(outcome: Outcome, num_last: int = 10) -> dict[str, Any]:
    """Return a method's line of the final table.

    Args:
      outcome: the method that has run.
      num_last: last evaluations whose accuracy is summed up.
    """
    last = outcome.rows[-1]
    accuracy = [row["test_accuracy"] for row in outcome.rows[-num_last:]]
    is_async = outcome.method.staleness_fn is not None
    return {
        "method": outcome.method.name,
        "gradients": last["gradients"],
        "virtual_time": last["virtual_time"],
        "test_accuracy_mean": float(np.mean(accuracy)),
        "test_accuracy_min": float(np.min(accuracy)),
        "mean_staleness": float(outcome.method.staleness.mean()) if is_async else None,
        "mean_alpha": float(outcome.result.updates.alpha.mean()) if is_async else None,
        "rejected": last["rejected"],
        "wall_seconds": outcome.wall_seconds,
    }


def arrivals(outcome: Outcome) -> dict[str, np.ndarray]:
    """Return what is saved of every arrival, arrays [T] by name."""
    trace, updates = outcome.method.trace, outcome.result.updates
    names = ("client", "start_version", "start_time", "arrival_time", "num_steps")
    columns = {name: getattr(trace, name) for name in names}
    return {**columns, "staleness": outcome.method.staleness, **updates._asdict()}


def warn_of_staleness(method: Method) -> str | None:
    """Return a line if most arrivals are too stale for the method's s(d), else None."""
    if method.staleness_fn is None:
        return None
    weights = np.asarray(method.staleness_fn(method.staleness))
    share = float(np.mean(weights < _TOO_LITTLE))
    if share < 0.5:
        return None
    median, mean = np.median(method.staleness), method.staleness.mean()
    return (
        f"{method.name}: {share:.0%} of the arrivals will count for less than "
        f"{_TOO_LITTLE:.0%} of alpha; their staleness is {mean:.0f} in the mean, "
        f"{median:.0f} in the median, which this function hardly tolerates"
    )


def _make_row(
    method: Method, evaluation: Evaluation, updates: Updates, rejected: int
) -> dict[str, Any]:
    """Return a line of metrics: an evaluation and the updates since the last one."""
    version, trace = evaluation.version, method.trace
    recent = slice(version - len(updates.alpha), version)
    return {
        "method": method.name,
        "version": version,
        "updates": version if method.counts_updates else None,
        "gradients": int(trace.num_steps[:version].sum()),
        "virtual_time": _time_of(method, version) if method.has_clock else None,
        "test_accuracy": float(evaluation.metrics["correct"]),
        "test_loss": float(evaluation.metrics["loss"]),
        "train_loss": _mean(updates.loss),
        "mean_staleness": _mean(method.staleness[recent]),
        "mean_alpha": _mean(updates.alpha),
        "rejected": rejected + int(np.sum(~updates.applied)),
    }


def _time_of(method: Method, version: int) -> float:
    return float(method.trace.arrival_time[version - 1]) if version else 0.0


def _mean(values: ArrayLike) -> float | None:
    """Return the mean, None if there is none: JSON knows neither NaN nor infinity."""
    values = np.asarray(values)
    mean = float(np.mean(values)) if len(values) else np.nan
    return mean if np.isfinite(mean) else None
