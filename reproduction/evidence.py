"""What the runs of the figures came to: from run folders to one results file.

The file is all that pictures, decisions and ``docs/reproduction.md`` are made from.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedasync_jax.jobs.sweep import Point
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.read_run import read_metrics
from fedasync_jax.storage.run_folder import Row
from reproduction.figures import FEDASYNC, Cell, Figure, read_key
from reproduction.runs import End, find_end, is_same_run

_PLACES = ("data_path", "run_dir")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """The curves of one data set, on one grid of gradients.

    Attributes:
      is_text: whether values are minus the test loss in nats, else test accuracy; so
        more is better.
      gradients: int [P], of every evaluation.
      curves: float [S, P] by cell, values of every seed; NaN where it was not run.
      whole: bool [S] by cell, whether the run did not end early.
      seeds: of the rows.
    """

    is_text: bool
    gradients: np.ndarray
    curves: Mapping[Cell, np.ndarray]
    whole: Mapping[Cell, np.ndarray]
    seeds: Sequence[int]


def make_results(
    scale: str,
    runs: Iterable[tuple[Cell, int, Point]],
    pieces: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what a results file holds, of all runs that have come to an end.

    A run that has grown since counts as far as it came to its end before.

    Args:
      scale: its name.
      runs: see ``find_runs``.
      pieces: how long they took, see ``scripts/reproduce.py``.
    """
    records, settings, versions = [], {}, []
    for cell, seed, point in runs:
        try:
            rows = next(iter(read_metrics(point.path).values()))
            config = read_config(point.path)
        except ValueError:
            continue
        if not is_same_run(config["settings"], point):
            continue
        part = _choose_part(rows, find_end(point))
        if part is not None:
            records.append(_describe(cell, seed, config, *part))
            mine = {k: v for k, v in config["settings"].items() if k not in _PLACES}
            settings.setdefault(cell.data, mine)
            if config["versions"] not in versions:
                versions.append(config["versions"])
    return {
        "scale": scale,
        "versions": versions,
        "settings": settings,
        "pieces": list(pieces),
        "runs": records,
    }


def make_evidence(
    records: Sequence[Mapping[str, Any]], cells: Sequence[Cell]
) -> Evidence | None:
    """Return the curves of some cells; None if none of them has come to its end.

    Longer runs are cut to the length of the shortest, whose evaluations are those of
    all; where another has none, it is interpolated. A run whose arrivals were all
    rejected ended early; its model would not have changed, so its last value goes on.

    Args:
      records: of a results file.
      cells: of one data set.
    """
    keyed = {read_key(record): record for record in records}
    mine = {key: record for key, record in keyed.items() if key[0] in cells}
    whole = [record for record in mine.values() if record["finished"]]
    if not whole:
        return None
    seeds = list(dict.fromkeys(seed for _, seed in mine))
    shortest = min(whole, key=lambda record: record["gradients"][-1])
    gradients = np.array(shortest["gradients"])
    by_cell = {
        cell: [mine.get((cell, seed)) for seed in seeds]
        for cell in dict.fromkeys(cell for cell, _ in mine)
    }
    return Evidence(
        is_text=shortest["is_text"],
        gradients=gradients,
        curves={
            cell: np.array([_curve(record, gradients) for record in row])
            for cell, row in by_cell.items()
        },
        whole={
            cell: np.array([bool(record and record["finished"]) for record in row])
            for cell, row in by_cell.items()
        },
        seeds=seeds,
    )


def compare_exactly(
    records: Sequence[Mapping[str, Any]], figure: Figure
) -> list[tuple[float, int, bool, float]]:
    """Return alpha, seed, equality and largest difference of hinge and constant.

    Where no arrival is staler than b the weights are the same, so losses and final
    models must be equal in every bit. Runs of different lengths are left out.

    Args:
      records: of a results file.
      figure: one whose hinge is such a hinge.
    """
    runs = {read_key(record): record for record in records}
    compared = []
    for alpha in figure.alphas:
        constant, _, hinge = (
            figure.cell(method, figure.max_staleness[0], alpha) for method in FEDASYNC
        )
        for seed in sorted({seed for _, seed in runs}):
            one, other = runs.get((constant, seed)), runs.get((hinge, seed))
            if one is None or other is None or one["gradients"] != other["gradients"]:
                continue
            names = ("value", "train_loss", "model")
            same = all(one[name] == other[name] for name in names)
            gaps = np.subtract(one["value"], other["value"])
            compared.append((alpha, seed, same, float(np.abs(gaps).max())))
    return compared


def _choose_part(
    rows: Sequence[Row], end: End | None
) -> tuple[Sequence[Row], End | None] | None:
    """Return the evaluations that count, and where they end; None if none do.

    Args:
      rows: all evaluations of a run.
      end: see ``find_end``.

    Returns:
      Those up to its end, though it may have grown since. If it ended early, as all
      arrivals were rejected, all of them, and None.
    """
    kept = [row for row in rows if end is not None and row["version"] <= end.version]
    if len(kept) < len(rows) and _has_diverged(rows):
        return rows, None
    if end is None or kept[-1]["version"] < end.version:
        return None  # no end, or its evaluation is gone since the run has grown
    return kept, end


def _describe(
    cell: Cell,
    seed: int,
    config: Mapping[str, Any],
    rows: Sequence[Row],
    end: End | None,
) -> dict[str, Any]:
    is_text = "test_perplexity" in rows[-1]
    num_updates, model = config["settings"]["num_updates"], None
    if end is not None:
        num_updates = end.num_updates
        weights = (end.model / "model.safetensors").read_bytes()
        model = hashlib.sha256(weights).hexdigest()
    return {
        "cell": cell._asdict(),
        "seed": seed,
        "num_updates": num_updates,
        "is_text": is_text,
        "finished": end is not None,
        "rejected": rows[-1]["rejected"],
        "gradients": [row["gradients"] for row in rows],
        "value": [
            _shorten(row["test_loss" if is_text else "test_accuracy"]) for row in rows
        ],
        "train_loss": _checksum([row["train_loss"] for row in rows]),
        "model": model,
    }


def _shorten(value: float | None) -> float | None:
    """Return the shortest number that is the same as a float32."""
    return None if value is None else float(str(np.float32(value)))


def _checksum(values: Sequence[float | None]) -> str:
    """Return what is equal where all values are, and short."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _has_diverged(rows: Sequence[Row]) -> bool:
    """Return whether all arrivals before the last evaluation were rejected."""
    if len(rows) < 2:
        return False
    before, last = rows[-2:]
    arrived = last["version"] - before["version"]
    return last["rejected"] - before["rejected"] == arrived


def _curve(record: Mapping[str, Any] | None, gradients: np.ndarray) -> np.ndarray:
    if record is None:
        return np.full(len(gradients), np.nan)
    values = np.array(record["value"], np.float64)  # None becomes NaN
    values = -values if record["is_text"] else values
    return np.interp(gradients, record["gradients"], values)
