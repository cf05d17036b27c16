"""The runs that lie in a folder: which there are, and how far each has come."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.jobs.identity import identify_settings
from fedasync_jax.jobs.sweep import Point
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.read_run import read_models
from reproduction.figures import (
    Cell,
    list_cells,
    make_figures,
    make_point,
)
from reproduction.scales import SCALES
from reproduction.why import list_why_cells

_FREE = {"data_path", "num_updates"}


class End(NamedTuple):
    """Where a run came to an end; it may have grown since.

    Attributes:
      num_updates: that it was asked for.
      version: of its model.
      model: folder of the model.
    """

    num_updates: int
    version: int
    model: Path


def find_runs(
    scale: str, out: Path, seeds: Collection[int]
) -> list[tuple[Cell, int, Point]]:
    """Return cell, seed and place of the runs of a scale, whatever their lengths.

    Args:
      scale: its name.
      out: folder of all runs.
      seeds: of the runs.
    """
    figures = list(make_figures(SCALES[scale]).values())
    cells = dict.fromkeys([*list_cells(figures), *list_why_cells()])
    runs = [
        (cell, seed, make_point(cell, SCALES[scale], seed, out, None))
        for cell in cells
        for seed in seeds
    ]
    return [run for run in runs if run[2].path.is_dir()]


def is_same_run(settings: Mapping[str, Any], point: Point) -> bool:
    """Return whether settings are those of a run, but for places and its length."""
    return _differ(settings, point) <= _FREE


def _differ(settings: Mapping[str, Any], point: Point) -> set[str]:
    """Return which settings differ, by name."""
    return set(identify_settings(point.settings).compare(settings)) - {"run_dir"}


def find_end(point: Point) -> End | None:
    """Return where a run has come to an end; None if it has not, or is another one."""
    for slug, about in read_models(point.path).items():
        if is_same_run(about["settings"], point):
            num_updates = about["settings"]["num_updates"]
            return End(num_updates, about["version"], point.path / slug / "model")
    return None


def keep_length(point: Point) -> Point:
    """Return a run as it is to be made: no shorter than what is there.

    Figures share runs, so one of them may ask for less than there is.

    Args:
      point: what is asked for.

    Raises:
      ValueError: if its folder is not one of a run.
    """
    wanted, end = point.settings.run.num_updates, find_end(point)
    if end is not None and end.num_updates >= wanted:
        wanted = end.num_updates
    elif point.path.exists():
        wanted = max(wanted, read_config(point.path)["settings"]["num_updates"])
    settings = point.settings.replace(num_updates=wanted)
    return point._replace(settings=settings)
