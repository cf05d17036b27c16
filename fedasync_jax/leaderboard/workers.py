"""The cells of a task, raced by processes side by side, here or on a cluster.

A run is small, so that a core is used best by a process of its own. Every process takes
its share of the cells and writes what it has run at once, so that nothing is lost. On a
cluster every cell is a task, and results are told to the driver, which writes them.
"""

import contextlib
import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.jobs.cluster import Cluster
from fedasync_jax.jobs.tasks import Failed, Lost, run_orders
from fedasync_jax.jobs.worker_process import (
    ONE_THREAD,
    Here,
    WorkerSetup,
    find_here,
    prepare_worker,
)
from fedasync_jax.leaderboard.board import Cell
from fedasync_jax.leaderboard.entries import (
    TUNING_SEEDS,
    Contender,
    list_choices,
)
from fedasync_jax.leaderboard.race import Race, Try, list_tries
from fedasync_jax.leaderboard.results import Ran, append_results, read_results


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
    for news in _race(plan, read_results(plan.path, plan.protocol)):
        if isinstance(news, Cell):
            yield news
        else:
            write(plan.path, news)


def _race(plan: RacePlan, earlier: Sequence[Ran]) -> Iterator[Cell | list[Ran]]:
    """Run what is missing, and yield it now and then; after it the cell, if done."""
    known = {ran.key: ran for ran in earlier}
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
            yield from _run(plan, race, list_tries(choices, TUNING_SEEDS))
            final = list_tries([choices[0], race.choose(entry)], plan.seeds)
            yield from _run(plan, race, final)
        yield cell


def _run(plan: RacePlan, race: Race, tries: Sequence[Try]) -> Iterator[list[Ran]]:
    if plan.end is not None and time.time() > plan.end:
        raise TimeIsUp
    made = list(race.run(tries))
    if made:
        yield made


class CellOrder(NamedTuple):
    """What a task of a cluster is given.

    Attributes:
      plan: of one cell.
      earlier: its results so far.
      setup: of the worker.
    """

    plan: RacePlan
    earlier: Sequence[Ran]
    setup: WorkerSetup


def race_on_cluster(
    cluster: Cluster,
    plan: RacePlan,
    setup: WorkerSetup,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Cell]:
    """Run a plan by the workers of a cluster, and yield every cell that is done.

    A worker that is lost takes no more with it than the runs that it was at.

    Args:
      cluster: where.
      plan: see ``race_cells``.
      setup: of the workers.
      tell: is told in a line where cells are run, of lost workers and of failures.

    Raises:
      OSError: if results cannot be written, or the cluster is lost.
      TimeIsUp: see ``race_cells``, as all that follow.
      ValueError: if results are damaged, or a cell could not be run.
    """

    def make_order(cell: Cell) -> CellOrder:
        results = read_results(plan.path, plan.protocol)
        mine = [ran for ran in results if ran.key[:3] == cell[1:]]
        return CellOrder(plan._replace(cells=[cell]), mine, setup)

    time_is_up, failed = False, []
    for event in run_orders(
        cluster,
        race_order,
        map(make_order, plan.cells),
        again=lambda order: make_order(order.plan.cells[0]),
    ):
        (cell,) = event.order.plan.cells
        if isinstance(event, Lost):
            tell(f"  {_name(cell)}: lost the worker ({event.why}) and will go on")
        elif isinstance(event, Failed):
            failed.append(cell)
            tell(f"  {_name(cell)}: failed, {event.why}")
        elif isinstance(event.news, Cell):
            yield event.news
        elif isinstance(event.news, Here):
            host, process = event.news
            tell(f"  {_name(cell)}: on {host}, process {process}")
        elif isinstance(event.news, TimeIsUp):
            time_is_up = True
        else:
            append_results(plan.path, event.news)
    if failed:
        names = "; ".join(map(_name, failed))
        raise ValueError(f"cells must be able to run, these failed: {names}")
    if time_is_up:
        raise TimeIsUp


def race_order(order: CellOrder) -> Iterator[Cell | list[Ran] | TimeIsUp | Here]:
    """Run what is missing of a cell, in a process of a cluster."""
    prepare_worker(order.setup)
    yield find_here()
    try:
        yield from _race(order.plan, order.earlier)
    except TimeIsUp as end:
        yield end


def _name(cell: Cell) -> str:
    return ", ".join(map(str, cell))


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
    os.environ["XLA_FLAGS"] = f"{before or ''} {ONE_THREAD}".strip()
    try:
        yield
    finally:
        if before is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = before
