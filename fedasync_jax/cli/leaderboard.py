"""Compare mixing rules on the leaderboard: run what is missing, write the page.

    fedasync leaderboard --tasks digits synthetic
    fedasync leaderboard --enter my_module.my_rule my_module.my_rule:step=0.2
    fedasync leaderboard --tasks cifar10 --data-path FOLDER --max-minutes 60

Every run is a line in OUT/TASK.csv. Repeat the command to continue where it stopped.
The page, OUT.md, has all cells in which every method was run.
"""

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from fedasync_jax.cli.endings import clear_endings
from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.cli.plain_help import show_help
from fedasync_jax.cli.ray_flags import choose_cluster
from fedasync_jax.cli.run_flags import check_out, check_positive
from fedasync_jax.experiment.method_names import check_methods
from fedasync_jax.jobs.cluster import ClusterChoice, open_cluster
from fedasync_jax.jobs.cores import count_usable_cores
from fedasync_jax.jobs.nodes import check_nodes, mark_place
from fedasync_jax.jobs.worker_process import WorkerSetup
from fedasync_jax.leaderboard.board import TASKS, Cell, find_protocol, list_cells
from fedasync_jax.leaderboard.entries import ENTRIES, OWN, Contender
from fedasync_jax.leaderboard.page import TITLE, write_page
from fedasync_jax.leaderboard.regret import collect_finals
from fedasync_jax.leaderboard.results import (
    read_entries,
    read_results,
    write_entries,
)
from fedasync_jax.leaderboard.workers import (
    RacePlan,
    TimeIsUp,
    race_on_cluster,
    race_side_by_side,
)
from fedasync_jax.parts.bounds import at_least, check_value, one_of
from fedasync_jax.storage.lock import lock_folder
from fedasync_jax.storage.writing import write_file

_TIME_IS_UP = 3  # exit code
_DEFAULT_TASKS = tuple(name for name, task in TASKS.items() if not task.needs_data)


@dataclasses.dataclass(frozen=True)
class LeaderboardFlags:
    """The command line."""

    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK [TASK ...]")] = (
        _DEFAULT_TASKS
    )
    """Tasks to run: digits, synthetic, cifar10."""
    enter: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LINE [LINE ...]")] = ()
    """Your own method: first the line that is run untuned, then the lines to tune over;
    three lines make nine settings, as for all other methods. OUT remembers it."""
    out: Path = Path("runs/leaderboard")
    """Folder of the runs; the page is written beside it."""
    data_path: Path | None = None
    """Folder of the data of cifar10."""
    num_seeds: int = 5
    """Number of seeds that are reported, from 0 on."""
    jobs: int | None = None
    """Processes side by side (default: one for each core)."""
    max_minutes: float | None = None
    """Minutes after which it stops; repeat the command to continue."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="WHERE")] = None
    """Run on a cluster of Ray: local (made on this machine for this command), auto (the
    one that is found) or HOST:PORT."""
    ray_cpus: int | None = None
    """CPUs of a worker of the cluster (default: 1)."""
    ray_gpus: float | None = None
    """GPUs of a worker (default: 1 where the cluster has GPUs)."""
    page_only: bool = False
    """Write the page and run nothing."""

    def check(self) -> None:
        """Raise ValueError, in one line, if a flag is out of range."""
        for task in self.tasks:
            check_value("tasks", Annotated[str, one_of(TASKS)], task)
            if TASKS[task].needs_data and not (self.data_path or self.page_only):
                raise ValueError(
                    f"data_path must be a folder for task {task}, got None"
                )
        check_value("num_seeds", Annotated[int, at_least(2)], self.num_seeds)
        if self.jobs is not None:
            check_value("jobs", Annotated[int, at_least(1)], self.jobs)
        self.choose_cluster()
        check_positive(self, "max_minutes")
        if self.enter:
            check_methods(self.enter)

    def choose_cluster(self) -> ClusterChoice | None:
        """Return where to run; None: here. ValueError: see ``check``."""
        if self.ray is not None and self.jobs is not None:
            raise ValueError(f"jobs must not be given with --ray, got {self.jobs}")
        return choose_cluster(self.ray, self.ray_cpus, self.ray_gpus)


@clear_endings()
def main() -> None:
    """Run the leaderboard."""
    show_help(LeaderboardFlags, "fedasync leaderboard", __doc__ or "")
    flags = parse_flags(LeaderboardFlags, "")
    console = Console(highlight=False, soft_wrap=True)
    try:
        flags.check()
        check_out(flags.out)
        flags.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        fail(error)
    time_is_up, lock = False, None
    try:
        lock = lock_folder(flags.out, "out")
        own = read_entries(flags.out)
        if flags.enter:
            own[flags.enter[0]] = Contender(OWN, flags.enter)
            write_entries(flags.out, own)
        entries = {**ENTRIES, **own}
        time_is_up = not flags.page_only and not _race(flags, entries, console)
        _write(flags, entries, console)
    except (ModuleNotFoundError, OSError, RuntimeError, ValueError) as error:
        fail(error)
    finally:
        if lock is not None:
            os.close(lock)
    if time_is_up:
        console.print("time is up; repeat the command to continue")
        sys.exit(_TIME_IS_UP)


def _race(
    flags: LeaderboardFlags, entries: dict[str, Contender], console: Console
) -> bool:
    """Run what is missing; return whether it was run to its end."""
    with contextlib.ExitStack() as stack:
        race = _choose_racers(flags, console, stack)
        return _race_tasks(flags, entries, console, race)


def _choose_racers(
    flags: LeaderboardFlags, console: Console, stack: contextlib.ExitStack
) -> Callable[[RacePlan], Iterator[Cell]]:
    """Return what runs a plan: processes, or a cluster that is connected."""
    choice = flags.choose_cluster()
    if choice is None:
        jobs = flags.jobs or count_usable_cores()
        return lambda plan: race_side_by_side(plan, min(jobs, len(plan.cells)))
    cluster = stack.enter_context(open_cluster(choice))
    place = stack.enter_context(mark_place(flags.out))
    data = [] if flags.data_path is None else [flags.data_path]
    check_nodes(cluster, place, data)
    console.print(f"Ray cluster with room for {cluster.count_slots()} workers")
    setup = WorkerSetup(place, cluster.cpus, cluster.gpus)
    return lambda plan: race_on_cluster(cluster, plan, setup, console.print)


def _race_tasks(
    flags: LeaderboardFlags,
    entries: dict[str, Contender],
    console: Console,
    race: Callable[[RacePlan], Iterator[Cell]],
) -> bool:
    begin = time.time()
    end = None if flags.max_minutes is None else begin + 60 * flags.max_minutes
    for task in flags.tasks:
        cells = list_cells(task)
        plan = RacePlan(
            cells=cells,
            entries=entries,
            seeds=range(flags.num_seeds),
            path=flags.out / f"{task}.csv",
            protocol=find_protocol(task),
            data_path=flags.data_path if TASKS[task].needs_data else None,
            end=end,
        )
        try:
            for done, cell in enumerate(race(plan), start=1):
                minutes = (time.time() - begin) / 60
                console.print(
                    f"{task}: {done} of {len(cells)} cells, {minutes:.1f} minutes "
                    f"({cell.fleet}, {cell.in_flight} in flight, {cell.variant})"
                )
        except TimeIsUp:
            return False
    return True


def _write(
    flags: LeaderboardFlags, entries: dict[str, Contender], console: Console
) -> None:
    seeds, finals = range(flags.num_seeds), {}
    for task in TASKS:
        results = read_results(flags.out / f"{task}.csv", find_protocol(task))
        found = collect_finals(task, entries, results, seeds)
        if found.cells:
            finals[task] = found
    if not finals:
        console.print("no cell is done; no page was written")
        return
    page = flags.out.with_name(f"{flags.out.name}.md")
    if page.exists() and not page.read_text().startswith(TITLE):
        raise ValueError(f"{page} must be new or a page of a leaderboard, got another")
    write_file(page, write_page(entries, finals, seeds).encode())
    console.print(f"wrote {page}")


if __name__ == "__main__":
    main()
