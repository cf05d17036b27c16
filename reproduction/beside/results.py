"""What the runs came to: from run folders to one results file.

The file is all that the pictures and ``docs/beside_others.md`` are made from.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.sweep import Point
from fedasync_jax.storage.config import read_config
from reproduction.beside.methods import CONTESTANTS
from reproduction.beside.published import PUBLISHED, Draw, Published, list_draws
from reproduction.beside.runs import (
    Run,
    Size,
    choose_settings,
    list_reported,
    list_tuning,
    read_rows,
    score_tries,
)

FIELDS = ("gradients", "virtual_time", "test_accuracy", "test_loss")
_DIGITS = 6
_NOT_SETTINGS = ("data_path", "run_dir", "seed", "methods", "rho", "fedavg_weights")


def list_published(out: Path) -> list[tuple[Published, Draw, Point]]:
    """Return the runs that meet published numbers: each with every draw."""
    return [
        (row, draw, Point(out / "published" / row.slug / f"draw-{draw.seed}", settings))
        for row in PUBLISHED
        for draw in list_draws()
        for settings in [
            make_settings(
                **row.settings,
                synthetic_seed=draw.seed,
                seed=draw.seed,
                eval_every=row.settings["num_updates"],
            )
        ]
    ]


def make_results(
    size: Size, out: Path, pieces: Sequence[Mapping[str, Any]], *, published: bool
) -> dict[str, Any]:
    """Return what a results file holds.

    Args:
      size: how much was run.
      out: folder of all runs, which have come to their end.
      pieces: how long they took, see ``pieces.jsonl``.
      published: whether the runs that meet published numbers were made.
    """
    scores = score_tries(list_tuning(size, out))
    chosen = choose_settings(scores)
    reported = list_reported(size, chosen, out)
    config = read_config(reported[0].point.path)
    settings = config["settings"]
    return {
        "size": {
            "num_updates": size.num_updates,
            "num_tuning_updates": size.num_tuning_updates,
            "seeds": list(size.seeds),
            "tuning_seeds": list(size.tuning_seeds),
        },
        "versions": config["versions"],
        "settings": {k: v for k, v in settings.items() if k not in _NOT_SETTINGS},
        "pieces": list(pieces),
        "draws": [draw._asdict() for draw in list_draws()],
        "tuning": {
            method: {
                "scores": [[_round(v) for v in row] for row in scores[method]],
                "chosen": chosen[method],
            }
            for method in CONTESTANTS
        },
        "reported": [_describe(run) for run in reported],
        "published": _sum_up(list_published(out)) if published else {},
    }


def _describe(run: Run) -> dict[str, Any]:
    rows = read_rows(run.point)
    last = rows[-1]
    return {
        "method": run.method,
        "seed": run.seed,
        "rejected": last["rejected"],
        "lost": last["lost"],
        **{field: [_round(row[field]) for row in rows] for field in FIELDS},
    }


def _sum_up(
    runs: Sequence[tuple[Published, Draw, Point]],
) -> dict[str, dict[str, list[float]]]:
    """Return the last value of every metric, one per draw, by slug and metric."""
    ends: dict[str, dict[str, list[float]]] = {}
    for row, _, point in runs:
        last = read_rows(point)[-1]
        for metric in row.numbers:
            values = ends.setdefault(row.slug, {}).setdefault(metric, [])
            values.append(_round(last[metric]))
    return ends


def _round(value: float) -> float:
    return round(value, _DIGITS)
