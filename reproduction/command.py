"""Reproduce the figures of the paper, and decide its findings.

    python scripts/reproduce.py --scale small --data-path DATA --text-path TEXT
    python scripts/reproduce.py --figure cifar-staleness-4 --data-path DATA

Every curve comes from runs below --out, in folders as fedasync train leaves them.
Finished runs are not repeated. After an interruption or --max-minutes, repeat the
command to continue.
"""

import dataclasses
import json
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rich.console import Console

from fedasync_jax.cli.flags import fail
from fedasync_jax.cli.run_flags import (
    RunFlags,
    check_out,
    check_positive,
    check_seeds,
    find_deadline,
    start_command,
)
from fedasync_jax.cli.together import TIME_IS_UP, run_all_points
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.storage.ownership import check_owned, write_owned
from reproduction import why
from reproduction.central import (
    count_epochs,
    read_central,
    train_centrally,
)
from reproduction.evidence import make_results
from reproduction.figures import (
    Cell,
    list_cells,
    make_figures,
    make_point,
)
from reproduction.page import decide_all
from reproduction.pictures import draw_all
from reproduction.pieces import read_pieces
from reproduction.runs import find_runs, keep_length
from reproduction.scales import SCALES, Scale
from reproduction.summary import tell


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(RunFlags):
    """What is reproduced."""

    figure: tuple[str, ...] = ("all",)
    """Figures to run: cifar-staleness-4, cifar-staleness-16, cifar-sweep, wikitext-4,
    wikitext-16, all of these (all), or why: what large staleness costs, and through
    what. The results cover all runs below --out."""
    scale: str = "paper"
    """Scale of the experiments: paper, small, or micro: ten seeds in four and a half
    hours on two cores."""
    data_path: Path | None = None
    """Folder of CIFAR-10, as for fedasync train."""
    text_path: Path | None = None
    """Folder of WikiText-2; with scale small, of Shakespeare."""
    out: Path = Path("runs/reproduction")
    """Folder of the runs."""
    seeds: tuple[int, ...] | None = None
    """Seeds to run and to report (default: those of the scale)."""
    num_updates: int | None = None
    """Updates of every run, in place of those of the scale; it may grow later. Runs
    that another figure made longer stay longer."""
    central: bool = True
    """Whether to train the network of CIFAR-10 centrally, too."""

    def __post_init__(self) -> None:
        """Check the fields."""
        known = ("all", why.NAME, *make_figures(SCALES["small"]))
        if not self.figure:
            raise ValueError(f"figure must be one of {', '.join(known)}, got none")
        for name in self.figure:
            if name not in known:
                raise ValueError(
                    f"figure must be one of {', '.join(known)}, got {name!r}"
                )
        if self.scale not in SCALES:
            raise ValueError(
                f"scale must be one of {', '.join(SCALES)}, got {self.scale!r}"
            )
        if self.seeds is not None:
            check_seeds(self.seeds)
        super().__post_init__()
        check_positive(self, "num_updates")


def main() -> None:
    """Run what is missing, then tell what came of it."""
    flags = start_command(Flags, "fedasync reproduce", __doc__ or "")
    console = Console()
    scale, out = SCALES[flags.scale], flags.out / flags.scale
    try:
        check_out(flags.out)
        check_out(out)
        check_owned(out / "results.json", is_ours=True)
        read_pieces(out)
    except (OSError, ValueError) as error:
        fail(error)
    if flags.run:
        _run_missing(flags, _list_asked_cells(flags.figure, scale), out, console)
    pieces = read_pieces(out)
    runs = find_runs(flags.scale, out, flags.seeds or scale.seeds)
    results = make_results(flags.scale, runs, pieces)
    if not results["runs"]:
        fail(f"out must hold runs that have come to their end, got {out}")
    results["central"] = read_central(out / "central")
    try:
        content = f"{json.dumps(results)}\n".encode()
        write_owned(out / "results.json", content, is_ours=True)
        _tell(console, results, out)
    except (OSError, ValueError) as error:
        fail(error)


def _list_asked_cells(names: Collection[str], scale: Scale) -> list[Cell]:
    """Return the curves of figures by name, each once."""
    figures = make_figures(scale)
    asked = figures if "all" in names else [name for name in names if name in figures]
    cells = list_cells([figures[name] for name in asked])
    if why.NAME in names:
        cells += why.list_why_cells()
    return list(dict.fromkeys(cells))


def _run_missing(flags: Flags, cells: list[Cell], out: Path, console: Console) -> None:
    """Run what is missing of curves; end the process when time is up."""
    scale, deadline = SCALES[flags.scale], find_deadline(flags.max_minutes)
    paths = {"cifar": flags.data_path, "text": flags.text_path}
    if flags.text_path is None and any(cell.data == "text" for cell in cells):
        what = "input.txt" if flags.scale == "small" else "train, valid and test .txt"
        fail(f"text_path must name a folder with {what}, got None")
    try:
        points = {
            keep_length(
                make_point(cell, scale, seed, out, paths[cell.data], flags.num_updates)
            ): cell
            for seed in flags.seeds or scale.seeds
            for cell in cells
        }
    except ValueError as error:
        fail(error)
    run_all_points(
        list(points),
        out,
        console,
        together=flags.together,
        deadline=deadline,
    )
    images = [point for point, cell in points.items() if cell.data == "cifar"]
    if flags.central and images:
        longest = max(images, key=lambda point: point.settings.run.num_updates)
        _train_centrally(longest.settings, out / "central", console, deadline)


def _train_centrally(
    settings: Settings, folder: Path, console: Console, deadline: float
) -> None:
    """Train the network without any federation; end the process when time is up."""
    epochs, earlier = count_epochs(settings), read_central(folder)
    if earlier is not None:  # it goes on with its own seed
        settings = settings.replace(seed=earlier["seed"])
    try:
        with console.status(f"central training, {epochs} epochs"):
            record = train_centrally(
                settings,
                epochs,
                folder,
                should_stop=lambda: time.monotonic() > deadline,
            )
    except (ValueError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        console.print("stopped; repeat the command to continue")
        sys.exit(128 + signal.SIGINT)
    if len(record["accuracy"]) < epochs:
        console.print("the time is up; repeat the command to continue")
        sys.exit(TIME_IS_UP)


def _tell(console: Console, results: dict[str, Any], out: Path) -> None:
    """Print the findings and draw the figures."""
    for data, findings in decide_all(results).items():
        for finding in findings:
            console.print(
                f"{data} {finding.number}. {finding.says}: {tell(finding)}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
    for picture in draw_all(results, out):
        console.print(f"wrote {picture}", highlight=False, soft_wrap=True)
    console.print(f"wrote {out / 'results.json'}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
