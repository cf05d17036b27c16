"""Runs on a cluster, as scripts run them: told as they are done, stopped and gone on.

The driver computes nothing. It builds runs to see which share a program, on its CPU, so
that it takes no accelerator from a worker on the same machine.
"""

import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from fedasync_jax.cli.own_parts import import_part
from fedasync_jax.cli.together import ending_in_a_line, note_pieces
from fedasync_jax.jobs.cluster import Cluster, ClusterChoice, open_cluster
from fedasync_jax.jobs.nodes import check_nodes, mark_place
from fedasync_jax.jobs.runner import Stopped
from fedasync_jax.jobs.spread import (
    Begun,
    News,
    PointDone,
    PointFailed,
    PointsLost,
    spread_points,
)
from fedasync_jax.jobs.sweep import Point, is_finished
from fedasync_jax.jobs.worker_process import WorkerSetup
from fedasync_jax.storage.ownership import check_owned, has_runs

_SILENT = 60.0  # seconds, after which there is a line that all goes on


def run_on_cluster(
    points: Sequence[Point],
    out: Path,
    console: Console,
    choice: ClusterChoice,
    *,
    together: int | None = None,
    deadline: float = math.inf,
    compile_cache: bool = True,
    load: Sequence[str] = (),
) -> tuple[list[str], list[Path]]:
    """Run what is not finished; end the process when it is to stop, or at an error.

    Args:
      points: see ``spread_points``.
      out: folder of all.
      console: to print on.
      choice: which cluster.
      together: runs in one task at most; default: 8 on CPUs, else 64.
      deadline: when all runs stop, with checkpoints and exit code 3; see
        ``run_flags.find_deadline``.
      compile_cache: whether workers keep compiled programs on their disks.
      load: files and modules with parts of one's own.

    Returns:
      Why some runs ended early, a line each, and the folders of runs that failed.
    """
    jax.config.update("jax_platforms", "cpu")
    with ending_in_a_line(console) as asked:
        left = sum(not is_finished(point) for point in points)
        lines = _ClusterLines(console, out, left)
        lines.print(f"{len(points)} runs below {out}, {left} to run")
        if not left:
            return [], []
        check_owned(out / "pieces.jsonl", is_ours=has_runs(out))

        def should_stop() -> bool:
            lines.show_life()
            return bool(asked) or time.monotonic() > deadline

        with open_cluster(choice) as cluster, mark_place(out) as place:
            lines.tell_cluster(cluster, check_nodes(cluster, place, _list_data(points)))
            most = together or (64 if cluster.gpus else 8)
            loads = [functools.partial(import_part, name) for name in load]
            setup = WorkerSetup(place, cluster.cpus, cluster.gpus, compile_cache, loads)
            for news in spread_points(
                cluster, points, setup, together=most, should_stop=should_stop
            ):
                lines.tell(news)
        if lines.num_left and (asked or time.monotonic() > deadline):
            raise Stopped(f"{lines.num_left} runs stopped")
    return lines.diverged, lines.failed


def _list_data(points: Sequence[Point]) -> list[Path]:
    """Return the files and folders that the points are made from."""
    found = [
        value
        for point in points
        for name, value in point.settings.flat().items()
        if isinstance(value, Path) and name != "run_dir"
    ]
    return list(dict.fromkeys(found))


class _ClusterLines:
    """Prints what has happened, and a line now and then where nothing has.

    Attributes:
      diverged: why runs ended early, a line each.
      failed: folders of runs that cannot be run.
      num_left: runs that are not done.
    """

    def __init__(self, console: Console, out: Path, num_left: int):
        self._console, self._out = console, out
        self._num_runs = self.num_left = num_left
        self._begin = self._printed = time.monotonic()
        self._is_ours = has_runs(out)
        self.diverged: list[str] = []
        self.failed: list[Path] = []

    def print(self, line: str) -> None:
        self._printed = time.monotonic()
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def tell_cluster(self, cluster: Cluster, apart: Sequence[str]) -> None:
        """Say what there is, and which nodes do not share the disk."""
        nodes, slots = len(cluster.list_nodes()), cluster.count_slots()
        size = f"{cluster.cpus} CPU{'s' * (cluster.cpus > 1)}"
        size += f" and {cluster.gpus:g} GPU" if cluster.gpus else ""
        self.print(
            f"Ray cluster with {nodes} node{'s' * (nodes > 1)}: room for {slots} "
            f"worker{'s' * (slots > 1)} of {size}"
        )
        for name in apart:
            self.print(
                f"  {name} does not see {self._out}: its runs come back when they are "
                "done, and begin anew if it is lost"
            )

    def tell(self, news: News) -> None:
        """Say what has happened."""
        if isinstance(news, Begun):
            where = f"{news.host}, process {news.process}"
            self.print(f"  {self._name(news.points)} on {where}")
        elif isinstance(news, PointDone):
            self.num_left -= 1
            self.diverged += news.diverged
            self._tell_progress(self._name([news.point]))
            for reason in news.diverged:
                self.print(f"  {reason}")
        elif isinstance(news, PointFailed):
            self.num_left -= 1
            self.failed.append(news.point.path)
            self._tell_progress(f"{self._name([news.point])} failed: {news.why}")
        elif isinstance(news, PointsLost):
            names = self._name(news.points)
            self.print(f"  {names} lost the worker ({news.why}) and will go on")
        elif isinstance(news, str):
            self.print(news)
        else:
            note_pieces(self._out, [news], is_ours=self._is_ours)

    def show_life(self) -> None:
        """Say that all goes on, if nothing was said for a minute."""
        if time.monotonic() - self._printed > _SILENT:
            self._tell_progress("still at work")

    def _tell_progress(self, what: str) -> None:
        minutes = (time.monotonic() - self._begin) / 60
        done = self._num_runs - self.num_left
        self.print(f"{done}/{self._num_runs} runs  {minutes:,.1f} min  {what}")

    def _name(self, points: Sequence[Point]) -> str:
        """Return the folders of a few points, or how many they are."""
        names = [str(point.path.relative_to(self._out)) for point in points]
        return ", ".join(names) if len(names) <= 2 else f"{len(names)} runs"
