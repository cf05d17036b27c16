"""The cells of a task, raced by processes side by side.

A run is small, so that a core is used best by a process of its own. Every process takes
its share of the cells and writes what it has run at once, so that nothing is lost.
"""

import contextlib
import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.leaderboard.board import Cell
from fedasync_jax.leaderboard.entries import (
    TUNING_SEEDS,
    Contender,
    list_choices,
)
from fedasync_jax.leaderboard.race import Race, list_tries
from fedasync_jax.leaderboard.results import append_results, read_results

_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class RacePlan(NamedTuple):
    """What a process is to do.

    Attributes:
      cells: of one task, in their order.
      entries: who competes.
      seeds: that are reported.
      path: of the results of the task.
      protocol: see ``find_protocol``.
      data_path: of tasks that need one.
      end: time (``time.time``) after which no run begins; None: run all.
    """

    cells: Sequence[Cell]
    entries: Mapping[str, Contender]
    seeds: Sequence[int]
    path: Path
    protocol: str
    data_path: Path | None
    end: float | None


class TimeIsUp(Exception):
    """A plan has reached its end; what has been run is written."""


def race_cells(
    plan: RacePlan, write: Callable[[Path, Sequence[Any]], None] = append_results
) -> Iterator[Cell]:
    """Run what is missing of a plan, and yield every cell that is done.

    Raises:
      OSError: if results cannot be written.
      TimeIsUp: if the end of the plan has come.
      ValueError: if results are damaged, or data do not fit.
    """
    known = {ran.key: ran for ran in read_results(plan.path, plan.protocol)}
    lines = [line for entry in plan.entries.values() for line in entry.lines]
    for cell in plan.cells:
        race = Race(
            cell,
            list(dict.fromkeys(lines)),
            known,
            protocol=plan.protocol,
            data_path=plan.data_path,
        )
        for entry in plan.entries.values():
            choices = list_choices(entry)
            _run(plan, race, list_tries(choices, TUNING_SEEDS), write)
            final = list_tries([choices[0], race.choose(entry)], plan.seeds)
            _run(plan, race, final, write)
        yield cell


def _run(
    plan: RacePlan,
    race: Race,
    tries: Sequence[Any],
    write: Callable[[Path, Sequence[Any]], None],
) -> None:
    if plan.end is not None and time.time() > plan.end:
        raise TimeIsUp
    made = list(race.run(tries))
    if made:
        write(plan.path, made)


def race_side_by_side(plan: RacePlan, jobs: int) -> Iterator[Cell]:
    """Run a plan by several processes, and yield every cell that is done.

    Raises:
      RuntimeError: if a process ended in another way than these.
      TimeIsUp: see ``race_cells``, as all that follow.
      OSError: if results cannot be written.
      ValueError: if results are damaged, or data do not fit.
    """
    if jobs == 1:
        yield from race_cells(plan)
        return
    context = multiprocessing.get_context("spawn")
    told, lock = context.Queue(), context.Lock()
    shares = [plan._replace(cells=plan.cells[i::jobs]) for i in range(jobs)]
    processes = [
        context.Process(target=_work, args=(share, told, lock), daemon=True)
        for share in shares
        if share.cells
    ]
    with _one_thread():
        for process in processes:
            process.start()
    try:
        yield from _listen(processes, told)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _listen(processes: Sequence[Any], told: Any) -> Iterator[Cell]:
    """Yield cells until all processes are done; raise what one of them raised."""
    going, time_is_up = len(processes), False
    while going:
        try:
            news = told.get(timeout=1)
        except queue.Empty:
            if not any(process.is_alive() for process in processes) and told.empty():
                raise RuntimeError("a process of the leaderboard was killed") from None
            continue
        if isinstance(news, Cell):
            yield news
            continue
        going -= 1
        if isinstance(news, TimeIsUp):
            time_is_up = True
        elif news is not None:
            raise news
    if time_is_up:
        raise TimeIsUp


def _work(plan: RacePlan, told: Any, lock: Any) -> None:
    """Do a share, in a process of its own."""

    def write(path: Path, results: Sequence[Any]) -> None:
        with lock:
            append_results(path, results)

    try:
        for cell in race_cells(plan, write):
            told.put(cell)
        told.put(None)
    except (TimeIsUp, OSError, ValueError) as error:
        told.put(error)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start in it use one thread for what XLA computes."""
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{before or ''} {_ONE_THREAD}".strip()
    try:
        yield
    finally:
        if before is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = before
