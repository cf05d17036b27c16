"""Tidy tables: what runs of several seeds come to, a row per number."""

import csv
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedasync_jax.estimates import estimate
from fedasync_jax.run_folder import Row

_METRICS = ("test_accuracy", "test_loss", "test_perplexity", "train_loss")
_NUM_LAST = 10


def tabulate(
    runs: Iterable[tuple[Mapping[str, Any], Mapping[str, Sequence[Row]]]],
) -> list[Row]:
    """Return a row for every setting, method, number of gradients and metric.

    Columns: those of the settings; ``method``, ``gradients``, ``metric``; ``runs``,
    how many seeds there are; ``n``, how many of them came so far with a finite value;
    over these ``mean``, ``sd``, ``low`` and ``high``, the 95% interval of
    the mean (see ``estimates``; None of a single value). A metric that ends in
    ``_last_10`` is the mean of a run's last ten evaluations; it stands at the last
    number of gradients, and only runs that came there count.

    Args:
      runs: of every run, what distinguishes it from others but the seed, and its
        metrics by method (``run_folder.read_metrics``). Those with equal settings are
        seeds of one.
    """
    groups: dict[tuple, list[Sequence[Row]]] = {}
    names: dict[str, None] = {}
    for settings, methods in runs:
        names |= dict.fromkeys(settings)
        for method, rows in methods.items():
            key = (*settings.items(), ("method", method))
            groups.setdefault(key, []).append(rows)
    table = []
    for key, seeds in groups.items():
        fixed = dict.fromkeys(names) | dict(key)
        for gradients, metric, values in _collect(seeds):
            where = {"gradients": gradients, "metric": metric}
            table.append({**fixed, **where, **_sum_up(values, len(seeds))})
    return table


def select_last(table: Sequence[Row], metric: str) -> list[Row]:
    """Return the rows of a metric at the last number of gradients of each setting."""
    last: dict[tuple, Row] = {}
    for row in table:
        if row["metric"] == metric:
            names = list(row)
            key = tuple(row[name] for name in names[: names.index("gradients")])
            last[key] = row  # gradients rise
    return list(last.values())


def write_table(path: Path, table: Sequence[Row]) -> list[Path]:
    """Write a table as CSV and, if pyarrow is installed, as Parquet.

    Args:
      path: without the end of its name.
      table: rows of the same columns.

    Returns:
      The files.

    Raises:
      OSError: if they cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(f"{path.name}.csv")]
    scratch = files[0].with_name(f".{files[0].name}")
    with scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _as_text(v) for k, v in row.items()} for row in table)
    os.replace(scratch, files[0])
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        return files
    files.append(path.with_name(f"{path.name}.parquet"))
    columns = {name: [_as_cell(row[name]) for row in table] for name in table[0]}
    scratch = files[1].with_name(f".{files[1].name}")
    pyarrow.parquet.write_table(pyarrow.table(columns), scratch)
    os.replace(scratch, files[1])
    return files


def _collect(
    seeds: Sequence[Sequence[Row]],
) -> Iterator[tuple[int, str, list[float]]]:
    """Yield gradients, metric, and its finite values of all seeds."""
    metrics = [m for m in _METRICS if any(m in row for rows in seeds for row in rows)]
    by_gradients = [{row["gradients"]: row for row in rows} for rows in seeds]
    places = sorted({gradients for rows in by_gradients for gradients in rows})
    for gradients in places:
        for metric in metrics:
            found = [rows.get(gradients, {}).get(metric) for rows in by_gradients]
            yield gradients, metric, _finite(found)
    whole = [rows for rows in seeds if rows[-1]["gradients"] == places[-1]]
    for metric in metrics:
        tails = [[row[metric] for row in rows[-_NUM_LAST:]] for rows in whole]
        means = [
            None if None in tail else math.fsum(tail) / len(tail) for tail in tails
        ]
        yield places[-1], f"{metric}_last_{_NUM_LAST}", _finite(means)


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _sum_up(values: list[float], num_runs: int) -> dict[str, Any]:
    if not values:
        return {
            "runs": num_runs,
            "n": 0,
            **dict.fromkeys(("mean", "sd", "low", "high")),
        }
    numbers = estimate(values)._asdict()
    return {
        "runs": num_runs,
        **{n: None if math.isnan(value) else value for n, value in numbers.items()},
    }


def _as_cell(value: Any) -> Any:
    """Return a value that a column can hold: several words become one."""
    return "+".join(map(str, value)) if isinstance(value, tuple | list) else value


def _as_text(value: Any) -> Any:
    return "" if value is None else _as_cell(value)
