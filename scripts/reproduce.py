"""Make the figures of the paper again, and decide its findings.

    python scripts/reproduce.py --scale small --data-path DATA --text-path TEXT
    python scripts/reproduce.py --figure cifar-staleness-4 --data-path DATA

Every curve is made of runs below ``--out``, in folders as scripts/train.py leaves them;
what is there is not run again. Interrupted, or stopped by ``--max-minutes``, the same
command goes on.
"""

import dataclasses
import json
import logging
import math
import signal
import sys
import time
from pathlib import Path

import _devices
import jax
from _cli import fail, parse_flags
from _figures import SCALES, list_cells, make_figures, make_point
from _machine import describe_hardware
from _results import describe_score
from _together import TogetherLine
from _versions import describe_revision, describe_versions
from rich.console import Console

from fedasync_jax.running import Stopped
from fedasync_jax.sweep import Point, run_points


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is reproduced."""

    figure: tuple[str, ...] = ("all",)
    """cifar-staleness-4, cifar-staleness-16, cifar-sweep, wikitext-4, wikitext-16, or
    all."""
    scale: str = "paper"
    """paper, or small: for a laptop."""
    data_path: Path | None = None
    """CIFAR-10, as for scripts/train.py."""
    text_path: Path | None = None
    """WikiText-2; of scale small, Shakespeare."""
    out: Path = Path("runs/reproduction")
    """Folder of the runs."""
    seeds: tuple[int, ...] | None = None
    """Seeds. Default: those of the authors' scripts."""
    num_updates: int | None = None
    """Updates of every run, if not those of the scale; may grow later."""
    together: int | None = None
    """Runs in one program. Default: 8 on a CPU, else 64."""
    max_minutes: float | None = None
    """Stop after so many minutes, with checkpoints."""


def main() -> None:
    """Run what is missing."""
    _devices.use_all_cores()
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    flags = parse_flags(Flags, __doc__ or "")
    console = Console()
    scale = SCALES[flags.scale]
    figures = make_figures(scale)
    names = tuple(figures) if "all" in flags.figure else flags.figure
    paths = {"cifar": flags.data_path, "text": flags.text_path}
    out = flags.out / flags.scale
    points = [
        make_point(cell, scale, seed, out, paths[cell.data], flags.num_updates)
        for seed in flags.seeds or scale.seeds
        for cell in list_cells([figures[name] for name in names])
    ]
    _run(points, flags, console)


def _run(points: list[Point], flags: Flags, console: Console) -> None:
    """Run the points; end the process when asked to stop, or at an error."""
    deadline = time.monotonic() + 60 * (flags.max_minutes or math.inf)
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: asked.append(number))
    devices = jax.devices()
    config = {
        "versions": describe_versions(),
        "revision": describe_revision(),
        "devices": [str(devices[0].device_kind), devices[0].platform, len(devices)],
    }
    line = TogetherLine(console)
    done = run_points(
        points,
        config,
        together=flags.together or (8 if devices[0].platform == "cpu" else 64),
        listener=line,
        should_stop=lambda: bool(asked) or time.monotonic() > deadline,
    )
    try:
        for point, results in done:
            for outcome in results.outcomes:
                console.print(
                    f"  {point.path}: {describe_score(outcome.rows[-1])}",
                    highlight=False,
                    soft_wrap=True,
                )
    except Stopped as stop:
        console.print(f"{stop}; the same command goes on")
        sys.exit(128 + asked[0] if asked else 3)
    except (ValueError, OSError) as error:
        fail(error)
    finally:
        _note_pieces(flags.out / flags.scale, line)


def _note_pieces(folder: Path, line: TogetherLine) -> None:
    """Put down how long it took, and on what."""
    with (folder / "pieces.jsonl").open("a", encoding="utf-8") as file:
        for piece in line.take_pieces():
            file.write(json.dumps({**piece, "hardware": describe_hardware()}) + "\n")


if __name__ == "__main__":
    main()
