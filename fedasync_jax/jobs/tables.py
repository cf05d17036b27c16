"""Tidy tables: what runs of several seeds come to, a row per number."""

import csv
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedasync_jax.jobs.estimates import estimate
from fedasync_jax.jobs.scores import NUM_LAST, last_trained
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage.ownership import write_owned
from fedasync_jax.storage.read_run import read_metrics, read_models
from fedasync_jax.storage.run_folder import Row

# Metrics, and what they can be: an interval goes no further.
_BOUNDS = {
    "test_accuracy": (0.0, 1.0),
    "test_loss": (0.0, math.inf),
    "test_perplexity": (1.0, math.inf),
    "valid_accuracy": (0.0, 1.0),
    "valid_loss": (0.0, math.inf),
    "train_loss": (0.0, math.inf),
    "client_accuracy_mean": (0.0, 1.0),
    "client_accuracy_worst_tenth": (0.0, 1.0),
    "client_accuracy_gini": (0.0, 1.0),
}


class FinishedRun(NamedTuple):
    """One run.

    Attributes:
      settings: what distinguishes it from others but the seed; runs with equal
        settings are seeds of one.
      metrics: rows by method, see ``read_run.read_metrics``.
      finished: methods that came to their end.
    """

    settings: Mapping[str, Any]
    metrics: Mapping[str, Sequence[Row]]
    finished: Collection[str]


def read_finished(run_dir: str | Path, settings: Mapping[str, Any]) -> FinishedRun:
    """Read a run folder; a method has come to its end if its last model is there.

    Args:
      run_dir: the run folder.
      settings: see ``FinishedRun``.

    Raises:
      ValueError: see ``read_run.read_metrics``.
    """
    metrics, models = read_metrics(run_dir), read_models(run_dir)
    finished = {
        method
        for method, rows in metrics.items()
        if models.get(slugify(method), {}).get("version") == rows[-1]["version"]
    }
    return FinishedRun(settings, metrics, finished)


def tabulate(runs: Iterable[FinishedRun]) -> list[Row]:
    """Return a row for every setting, method, evaluation and metric.

    Columns: those of the settings; ``method``; ``gradients`` and ``virtual_time`` of
    the evaluation, means over the seeds, which need not have the same (None if the
    method has no clock); ``metric``; ``runs``, how many seeds there are; ``n``, how
    many of them came so far with a finite value; over these ``mean``, ``sd``, ``low``
    and ``high``, the 95% interval of the mean as far as the metric can go (see
    ``estimates``; None of a single value). The last evaluation is that of all runs that
    came to their end, if one did. A metric that ends in ``_last_10`` is the mean of
    their last ten evaluations: its ``n`` is how many seeds came to the end.

    Args:
      runs: see ``read_finished``.
    """
    groups: dict[tuple, list[_Seed]] = {}
    names: dict[str, None] = {}
    for run in runs:
        names |= dict.fromkeys(run.settings)
        for method, rows in run.metrics.items():
            key = (*run.settings.items(), ("method", method))
            seed = _Seed(rows, method in run.finished)
            groups.setdefault(key, []).append(seed)
    table = []
    for key, seeds in groups.items():
        fixed = dict.fromkeys(names) | dict(key)
        for where, metric, values in _collect(seeds):
            numbers = _sum_up(values, len(seeds), _BOUNDS[metric.split("_last_")[0]])
            table.append({**fixed, **where, "metric": metric, **numbers})
    return table


def select_last(table: Sequence[Row], metric: str) -> list[Row]:
    """Return the rows of a metric at the last evaluation of each setting."""
    last: dict[tuple, Row] = {}
    for row in table:
        if row["metric"] == metric:
            names = list(row)
            key = tuple(row[name] for name in names[: names.index("gradients")])
            last[key] = row  # evaluations are in order
    return list(last.values())


def write_table(
    path: Path, table: Sequence[Row], *, is_ours: bool = False
) -> list[Path]:
    """Write a table as CSV and, if pyarrow is installed, as Parquet.

    Args:
      path: without the end of its name.
      table: rows of the same columns.
      is_ours: see ``write_owned``.

    Returns:
      The files.

    Raises:
      OSError: if they cannot be written.
      ValueError: if a file of another origin has the name of one.
    """
    files = [path.with_name(f"{path.name}.csv")]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _as_text(v) for k, v in row.items()} for row in table)
    write_owned(files[0], text.getvalue().encode(), is_ours=is_ours)
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        return files
    files.append(path.with_name(f"{path.name}.parquet"))
    columns = {name: [_as_cell(row[name]) for row in table] for name in table[0]}
    memory = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), memory)
    write_owned(files[1], memory.getvalue(), is_ours=is_ours)
    return files


class _Seed(NamedTuple):
    """What a method did with one seed."""

    rows: Sequence[Row]
    finished: bool

    @property
    def way(self) -> Sequence[Row]:
        """Evaluations but the one at the end."""
        return self.rows[:-1] if self.finished else self.rows


def _collect(
    seeds: Sequence[_Seed],
) -> Iterator[tuple[Row, str, list[float]]]:
    """Yield place, metric, and its finite values of all seeds."""
    rows = [row for seed in seeds for row in seed.rows]
    metrics = [m for m in _BOUNDS if any(m in row for row in rows)]
    ends = [seed.rows for seed in seeds if seed.finished]
    length = max(len(seed.way) for seed in seeds)
    places = [
        [seed.way[i] for seed in seeds if i < len(seed.way)] for i in range(length)
    ]
    if ends:
        places.append([rows[-1] for rows in ends])
    for found in places:
        for metric in metrics:
            yield _place(found), metric, _finite(row.get(metric) for row in found)
    for metric in metrics:
        last = [[row.get(metric) for row in last_trained(rows)] for rows in ends]
        yield _place(places[-1]), f"{metric}_last_{NUM_LAST}", _finite(map(_mean, last))


def _place(rows: Sequence[Row]) -> Row:
    """Return where evaluations of several seeds are."""
    times = _finite(row.get("virtual_time") for row in rows)
    return {
        "gradients": round(sum(row["gradients"] for row in rows) / len(rows)),
        "virtual_time": math.fsum(times) / len(times) if times else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _sum_up(
    values: list[float], num_runs: int, bounds: tuple[float, float]
) -> dict[str, Any]:
    if not values:
        return {
            "runs": num_runs,
            "n": 0,
            **dict.fromkeys(("mean", "sd", "low", "high")),
        }
    numbers = estimate(values)._asdict()
    for name in ("low", "high"):
        numbers[name] = float(np.clip(numbers[name], *bounds))
    return {
        "runs": num_runs,
        **{n: None if math.isnan(value) else value for n, value in numbers.items()},
    }


def _as_cell(value: Any) -> Any:
    """Return a value that a column can hold: several words become one."""
    return "+".join(map(str, value)) if isinstance(value, tuple | list) else value


def _as_text(value: Any) -> Any:
    return "" if value is None else _as_cell(value)
