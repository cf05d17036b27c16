"""Sweeps over a cluster: points that share a program are the order of a task.

Where a worker sees the driver's disk, it writes into the run folders, and what a lost
worker has begun goes on from its checkpoints. Elsewhere it writes to a disk of its own,
and folders come back to the driver when they are done.
"""

import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.jobs.cluster import Cluster
from fedasync_jax.jobs.identity import identify_settings
from fedasync_jax.jobs.machine import describe_hardware, describe_origin
from fedasync_jax.jobs.pieces import Pieces
from fedasync_jax.jobs.runner import Stopped, can_run_together
from fedasync_jax.jobs.session import Entry
from fedasync_jax.jobs.sweep import Point, is_finished, run_points, sort_points
from fedasync_jax.jobs.tasks import Failed, Lost, run_orders
from fedasync_jax.jobs.worker_process import (
    Here,
    WorkerSetup,
    find_here,
    noting_interrupt,
    prepare_worker,
)
from fedasync_jax.storage.copies import read_folder, write_folder
from fedasync_jax.storage.resume import check_goes_on


class PointDone(NamedTuple):
    """A point that was run; its folder is written.

    Attributes:
      point: which.
      diverged: why methods of it ended early, a line each.
    """

    point: Point
    diverged: Sequence[str]


class PointFailed(NamedTuple):
    """A point that cannot be run.

    Attributes:
      point: which.
      why: in a line.
    """

    point: Point
    why: str


class Begun(NamedTuple):
    """A worker has points that it runs together.

    Attributes:
      points: which.
      host: name of its machine.
      process: its number there.
    """

    points: Sequence[Point]
    host: str
    process: int


class PointsLost(NamedTuple):
    """A worker was lost.

    Attributes:
      points: what it had; they are run again.
      why: in a few words.
    """

    points: Sequence[Point]
    why: str


News = Begun | PointDone | PointFailed | PointsLost | str | Mapping[str, Any]


def spread_points(
    cluster: Cluster,
    points: Sequence[Point],
    setup: WorkerSetup,
    *,
    together: int = 8,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[News]:
    """Run what is not finished on a cluster, and yield what is to be told.

    A point that cannot be run fails alone. How many points share a task follows from
    the size of the cluster; results are those of a run alone, to the rounding of
    floats.

    Args:
      cluster: where.
      points: of different folders.
      setup: of the workers.
      together: points in one task at most.
      should_stop: see ``run_orders``; what runs is saved, as by ``run_points``.

    Raises:
      OSError: see ``run_orders``, or if a folder that comes back cannot be written.
      ValueError: if a folder holds something else.

    Yields:
      What has happened, notes as text, and what pieces of the work took as mappings,
      see ``pieces.Pieces``.
    """
    pending = sort_points([point for point in points if not is_finished(point)])
    for point in pending:  # all of them, before anything is compiled
        check_goes_on(point.path, identify_settings(point.settings))
    slots = max(1, cluster.count_slots())
    size = max(1, min(together, -(-len(pending) // slots)))
    failed: list[PointFailed] = []
    groups = _gather(pending, size, failed)
    orders = (Order(pickle.dumps(group), setup) for group in groups)
    for event in run_orders(cluster, run_order, orders, should_stop=should_stop):
        yield from _take(failed)
        group = event.order.points
        if isinstance(event, Lost):
            yield PointsLost(group, event.why)
        elif isinstance(event, Failed):
            yield from (PointFailed(point, event.why) for point in group)
        else:
            yield _receive(group, event.news)
    yield from _take(failed)


class Order(NamedTuple):
    """What a task is given.

    Attributes:
      pickled: its points; a worker reads them when parts of one's own are loaded.
      setup: of the worker.
    """

    pickled: bytes
    setup: WorkerSetup

    @property
    def points(self) -> list[Point]:
        """The points."""
        return pickle.loads(self.pickled)


class _Came(NamedTuple):
    """A point that a worker has run; ``files`` where it shares no disk."""

    number: int
    diverged: Sequence[str]
    files: Mapping[str, bytes] | None


class _Refused(NamedTuple):
    """A point that a worker cannot run."""

    number: int
    why: str


def run_order(order: Order) -> Iterator[Any]:
    """Run the points of an order, in a process of a cluster."""
    shares_disk = prepare_worker(order.setup)
    points = order.points
    yield find_here()
    with noting_interrupt() as asked, tempfile.TemporaryDirectory("-fedasync") as own:
        if not shares_disk:
            numbers = range(len(points))
            points = [points[n]._replace(path=Path(own) / str(n)) for n in numbers]
        try:
            for news in _run(points, lambda: bool(asked)):
                is_away = isinstance(news, _Came) and not shares_disk
                if is_away:
                    files = read_folder(points[news.number].path)
                    news = news._replace(files=files)
                yield news
        except Stopped:
            return


def _run(points: Sequence[Point], should_stop: Callable[[], bool]) -> Iterator[Any]:
    """Run points together; if one of them cannot be run, each alone."""
    pieces = _Noting()
    numbers = {point.path: number for number, point in enumerate(points)}
    try:
        for point, results in run_points(
            points,
            describe_origin(),
            together=len(points),
            callbacks=[pieces],
            should_stop=should_stop,
        ):
            yield from _take(pieces.notes)
            yield _Came(numbers[point.path], results.diverged, None)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        if len(points) == 1:
            yield _Refused(0, str(error))
            return
        for number, point in enumerate(points):
            for news in _run([point], should_stop):
                is_of_one = isinstance(news, _Came | _Refused)
                yield news._replace(number=number) if is_of_one else news
    for piece in pieces.take_pieces():
        yield {**piece, "hardware": describe_hardware()}


class _Noting(Pieces):
    """Keeps notes until they can be told."""

    def __init__(self):
        super().__init__()
        self.notes: list[str] = []

    def on_note(self, line: str) -> None:
        self.notes.append(line)


def _receive(group: Sequence[Point], news: Any) -> News:
    """Return what a worker has told, its folder written if it came back."""
    if isinstance(news, Here):
        return Begun(group, *news)
    if isinstance(news, _Refused):
        return PointFailed(group[news.number], news.why)
    if not isinstance(news, _Came):
        return news
    point = group[news.number]
    if news.files is not None:
        write_folder(point.path, news.files)
    return PointDone(point, news.diverged)


def _gather(
    points: Sequence[Point], size: int, failed: list[PointFailed]
) -> Iterator[list[Point]]:
    """Yield points that share their programs, ``size`` at most; note those that fail.

    As in ``run_jobs``, those of another problem follow when those before are through.
    """
    groups: list[tuple[Experiment, list[Point]]] = []
    for point in points:
        try:
            built = build_experiment(point.settings)
        except (OSError, ValueError, ModuleNotFoundError) as error:
            failed.append(PointFailed(point, str(error)))
            continue
        if groups and groups[0][0].workload.model is not built.workload.model:
            yield from (group for _, group in groups)
            groups = []
        fitting = (group for first, group in groups if _shares_programs(first, built))
        group = next(fitting, None)
        if group is None:
            group = []
            groups.append((built, group))
        group.append(point)
        if len(group) == size:
            groups = [one for one in groups if one[1] is not group]
            yield group
    yield from (group for _, group in groups)


def _shares_programs(one: Experiment, other: Experiment) -> bool:
    """Return whether the methods of experiments, in their order, can run together."""
    return len(one.methods) == len(other.methods) and all(
        can_run_together(Entry(one, mine), Entry(other, theirs))
        for mine, theirs in zip(one.methods, other.methods, strict=True)
    )


def _take(items: list[Any]) -> Iterator[Any]:
    """Yield the items, and take them out."""
    while items:
        yield items.pop(0)
