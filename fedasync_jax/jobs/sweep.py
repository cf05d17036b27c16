"""Sweeps: many settings, each a run folder below one folder, run side by side."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.engine.processes import find_processes
from fedasync_jax.experiment.build import (
    build_experiment,
    build_workload,
    make_methods,
)
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.jobs.agreement import (
    build_in_all,
    check_goes_on_in_all,
    check_same,
    check_same_settings,
    open_run_folder,
)
from fedasync_jax.jobs.callbacks import Callback
from fedasync_jax.jobs.identity import (
    identify,
    identify_methods,
    identify_settings,
)
from fedasync_jax.jobs.job import Job, Results, run_jobs
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.models import check_tensors
from fedasync_jax.storage.read_run import read_models
from fedasync_jax.storage.resume import list_changes


class Point(NamedTuple):
    """One of the settings of a sweep.

    Attributes:
      path: its run folder.
      settings: what is run there.
    """

    path: Path
    settings: Settings


def make_grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return all combinations, the last axis fastest.

    >>> make_grid({"alpha": [0.6, 0.9], "seed": [1, 2]})[1]
    {'alpha': 0.6, 'seed': 2}
    """
    return [
        dict(zip(axes, values, strict=True))
        for values in itertools.product(*axes.values())
    ]


def is_finished(point: Point) -> bool:
    """Return whether all methods of a point have been run to their end.

    It is asked of the settings, and, as files may have changed, of the data, fleet and
    schedules, which are built for it.

    Raises:
      OSError: if a file of it cannot be read.
      ValueError: if a file of it is damaged, or its data cannot be read any more.
    """
    if not (point.path / "summary.json").is_file():
        return False
    models, known = read_models(point.path), identify_settings(point.settings)
    config = read_config(point.path)
    if len(models) < len(point.settings.run.methods) or any(
        list_changes({**config, "settings": about["settings"]}, known)
        for about in models.values()
    ):
        return False
    try:
        for slug, about in models.items():
            check_tensors(point.path / slug / "model", about)
    except FileNotFoundError:
        return False
    stamp = (point.path / "config.json").stat().st_mtime_ns
    return _has_same_inputs(point, stamp)


def list_unfinished(points: Sequence[Point]) -> list[int]:
    """Return the places of the points that are left to run, as process 0 sees them."""
    return find_processes().lead(
        lambda: [i for i, point in enumerate(points) if not is_finished(point)]
    )


@functools.lru_cache(maxsize=4096)
def _has_same_inputs(point: Point, stamp: int) -> bool:
    """Return whether data, fleet and schedules are those that a run was made with."""
    del stamp  # when its config was written
    earlier = read_config(point.path).get("fingerprint")
    if earlier is None:
        return True
    workload = build_workload(point.settings)
    methods = list(make_methods(point.settings, workload))
    known = identify_methods(point.settings, workload, methods)
    return known.find_difference(earlier) is None


def run_points(
    points: Sequence[Point],
    config: Mapping[str, Any],
    *,
    together: int = 16,
    callbacks: Sequence[Callback] = (),
    make_callbacks: Callable[[Point], Sequence[Callback]] = lambda point: (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Point, Results]]:
    """Run what is not finished, and yield every point when it is done.

    Args:
      points: of different folders.
      config: what else goes into ``config.json`` beside the settings.
      together: see ``run_jobs``.
      callbacks: see ``run_jobs``.
      make_callbacks: returns who is told of the metrics of one point alone.
      should_stop: see ``run_jobs``.

    Raises:
      OSError: if something cannot be written.
      Stopped: if it was asked to, after a checkpoint of every run on its way.
      ValueError: if a folder holds something else, or settings do not fit the data.
    """
    check_same({"number of points": len(points)})
    pending = sort_points([points[i] for i in list_unfinished(points)])
    for point in pending:  # all of them, before anything is compiled
        check_same_settings(point.settings)
        check_goes_on_in_all(point.path, identify_settings(point.settings))
    processes = find_processes()
    if not processes.is_first:
        callbacks = ()
    with processes.together(), contextlib.ExitStack() as stack:
        jobs = _build(pending, config, stack, make_callbacks)
        of_folder = {point.path: point for point in pending}
        done = run_jobs(
            jobs, together=together, callbacks=callbacks, should_stop=should_stop
        )
        for job, results in done:
            yield of_folder[job.folder.path], results
            job.folder.close()


def sort_points(points: Sequence[Point]) -> list[Point]:
    """Return the points, those that learn the same problem together."""
    groups: dict[tuple, list[Point]] = {}
    for point in points:
        settings = point.settings
        key = settings.data, settings.model, settings.partition.num_clients
        groups.setdefault(key, []).append(point)
    return list(itertools.chain(*groups.values()))


def _build(
    points: Iterable[Point],
    config: Mapping[str, Any],
    stack: contextlib.ExitStack,
    make_callbacks: Callable[[Point], Sequence[Callback]],
) -> Iterator[Job]:
    for point in points:
        built = build_in_all(functools.partial(build_experiment, point.settings))
        settings = {"settings": point.settings.to_json()}
        about = {**config, **settings}
        folder = open_run_folder(point.path, about, identify(built))
        stack.callback(folder.close)
        yield Job(built, folder, make_callbacks(point) if folder.writes else ())
