"""Run a grid of settings with several seeds, side by side, and make one table.

    python scripts/sweep.py --grid alpha=0.3,0.6,0.9 concentration=0.1,1 --seeds 0 1 2
    python scripts/sweep.py --preset cifar10-small --grid max-staleness=4,16

The table is ``table.csv`` and, with pyarrow, ``table.parquet``: a row for every
setting, method, evaluation and metric, with mean, standard deviation and 95% interval
over the seeds.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from fedasync_jax.cli.distributed import end_together
from fedasync_jax.cli.endings import clear_endings
from fedasync_jax.cli.flag_list import SWEEP_FLAGS
from fedasync_jax.cli.flags import fail, given_names
from fedasync_jax.cli.grid import NOT_SWEPT, parse_grid
from fedasync_jax.cli.own_flags import parse_rest, read_start
from fedasync_jax.cli.ray_flags import choose_cluster
from fedasync_jax.cli.run_flags import check_out, check_seeds, find_deadline
from fedasync_jax.cli.startup import choose_compile_cache, prepare_process
from fedasync_jax.cli.sweep_table import make_sweep_table, show_setting
from fedasync_jax.cli.together import run_all_points
from fedasync_jax.cli.unused import check_axes, find_note, print_note
from fedasync_jax.engine.processes import find_processes
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.jobs.cluster import ClusterChoice
from fedasync_jax.jobs.sweep import Point, make_grid
from fedasync_jax.jobs.tables import read_finished, tabulate, write_table
from fedasync_jax.storage.ownership import check_owned, has_runs
from fedasync_jax.storage.run_folder import Row

_DESCRIPTION = """\
Run a grid of settings with several seeds, side by side, and make one table: table.csv
and, with pyarrow, table.parquet, with a row for every setting, method, evaluation and
metric: mean, standard deviation and 95% interval over the seeds.

fedasync sweep --grid alpha=0.3,0.6,0.9 concentration=0.1,1 --seeds 0 1 2"""


class SweepCommand(NamedTuple):
    """The command line.

    Attributes:
      settings: of all runs, but for what is swept.
      axes: values by name of the setting.
      seeds: of every combination.
      out: folder of the sweep.
      together: see ``run_all_points``.
      max_minutes: after which all runs stop, with checkpoints; exit code 3.
      compile_cache: whether to keep compiled programs on the disk.
      cluster: where to run; None: in this process.
      load: files and modules with parts of one's own.
      note: what was given and no run reads; empty: nothing.
    """

    settings: Settings
    axes: Mapping[str, Sequence[Any]]
    seeds: Sequence[int]
    out: Path
    together: int | None
    max_minutes: float | None
    compile_cache: bool
    cluster: ClusterChoice | None
    load: Sequence[str]
    note: str


@end_together()
@clear_endings()
def main() -> None:
    """Run the sweep."""
    prepare_process()
    command = parse_sweep(sys.argv[1:])
    choose_compile_cache(command.compile_cache)
    is_first = find_processes().is_first
    console = Console(quiet=not is_first)
    try:
        if command.cluster is not None and (count := find_processes().count) > 1:
            raise ValueError(f"ray needs one process, got {count} (--no-distributed)")
        combinations = make_grid(command.axes)
        points = {
            make_sweep_point(command, combination, seed): combination
            for combination in combinations
            for seed in command.seeds
        }
        check_out(command.out)
        is_ours = has_runs(command.out)
        for name in ("table.csv", "table.parquet"):
            check_owned(command.out / name, is_ours=is_ours)
    except ValueError as error:
        fail(error)
    print_note(console, command.note)
    diverged, failed = _run(command, list(points), console)
    if is_first:
        _tell(console, command, points, failed, is_ours=is_ours)
    if diverged:
        console.print(f"{_count(diverged)} ended early", style="red")
    if failed:
        console.print(f"{_count(failed)} failed", style="red")
    if diverged or failed:
        sys.exit(1)


def _tell(
    console: Console,
    command: SweepCommand,
    points: Mapping[Point, Mapping[str, Any]],
    failed: Collection[Path],
    *,
    is_ours: bool,
) -> None:
    """Write the table and print its end; of several processes, only process 0 does."""
    try:
        table = tabulate(
            read_finished(point.path, where)
            for point, where in points.items()
            if point.path not in failed or (point.path / "metrics.jsonl").is_file()
        )
        if not table:
            raise ValueError(f"runs must be able to start, {_count(failed)} failed")
        files = write_table(command.out / "table", table, is_ours=is_ours)
    except (OSError, ValueError) as error:
        fail(error)
    _print_table(console, table, list(command.axes))
    for file in files:
        console.print(f"wrote {file}", highlight=False, soft_wrap=True)


def _count(runs: Collection[Any]) -> str:
    return f"{len(runs)} run{'s' * (len(runs) != 1)}"


def _run(
    command: SweepCommand, points: Sequence[Point], console: Console
) -> tuple[list[str], list[Path]]:
    """Run the points; return why some ended early, and the folders of what failed."""
    deadline = find_deadline(command.max_minutes)
    if command.cluster is None:
        together, out = command.together, command.out
        diverged = run_all_points(
            points, out, console, together=together, deadline=deadline
        )
        return diverged, []
    from fedasync_jax.cli.on_cluster import run_on_cluster

    return run_on_cluster(
        points,
        command.out,
        console,
        command.cluster,
        together=command.together,
        deadline=deadline,
        compile_cache=command.compile_cache,
        load=command.load,
    )


def parse_sweep(args: Sequence[str]) -> SweepCommand:
    """Return the command line."""
    start = read_start("sweep", _DESCRIPTION, SWEEP_FLAGS, args)
    own = start.own
    given = given_names(start.rest)
    for name in NOT_SWEPT:
        if name in given:
            fail(f"{name} must not be given, as --seeds and --out are, got {name}")
    try:
        default = start.make_default()
    except ValueError as error:
        fail(error)
    settings = parse_rest(start, default)
    try:
        axes = parse_grid(own.grid or [], settings)
        for name in axes.keys() & given:
            raise ValueError(f"{name} must be given once, got it in --grid, too")
        runs = [settings.replace(**combination) for combination in make_grid(axes)]
        check_axes(axes, runs)
        return SweepCommand(
            settings=settings,
            axes=axes,
            seeds=_parse_seeds(["0", "1", "2"] if own.seeds is None else own.seeds),
            out=Path("runs/sweep" if own.out is None else own.out),
            together=own.together and _parse_count("together", own.together, 1),
            max_minutes=own.max_minutes and _parse_minutes(own.max_minutes),
            compile_cache=not own.no_compile_cache,
            cluster=choose_cluster(own.ray, own.ray_cpus, own.ray_gpus),
            load=own.load or [],
            note=find_note(start, runs),
        )
    except ValueError as error:
        fail(error)


def make_sweep_point(
    command: SweepCommand, combination: Mapping[str, Any], seed: int
) -> Point:
    """Return the run of a combination and a seed.

    Raises:
      ValueError: if settings do not go together.
    """
    parts = [f"{name}-{show_setting(value)}" for name, value in combination.items()]
    folder = "_".join(parts) or "all"
    settings = command.settings.replace(**combination, seed=seed)
    return Point(command.out / folder / f"seed-{seed}", settings)


def _parse_count(name: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"{name} must be whole numbers >= {least}, got {text}")
    return int(text)


def _parse_seeds(texts: Sequence[str]) -> list[int]:
    seeds = [_parse_count("seeds", text, 0) for text in texts]
    check_seeds(seeds)
    return seeds


def _parse_minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not minutes > 0:
        raise ValueError(f"max_minutes must be > 0, got {text}")
    return minutes


def _print_table(console: Console, table: Sequence[Row], axes: Sequence[str]) -> None:
    """Print the last numbers of every setting and method."""
    shown, notes = make_sweep_table(table, axes)
    # Elsewhere than on a terminal nobody would see what does not fit 80 columns.
    wide = console if console.is_terminal else Console(width=200)
    wide.print(shown)
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
