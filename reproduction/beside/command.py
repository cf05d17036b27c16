"""Run FedAsync beside other methods on Synthetic(1, 1), and write the page of it.

    python scripts/beside_others.py
    python scripts/beside_others.py --max-minutes 20
    python scripts/beside_others.py --no-run

First every method's settings are chosen on validation samples, then the chosen ones are
run with other seeds, then the settings whose results others published. Finished runs
are not repeated. After an interruption or --max-minutes, repeat the command to
continue. The page is made from the results file alone; --no-run writes it anew.
"""

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.cli.plain_help import show_help
from fedasync_jax.cli.startup import choose_compile_cache, prepare_process
from fedasync_jax.cli.together import run_all_points
from fedasync_jax.jobs.sweep import Point
from reproduction.beside.methods import SEEDS, TUNING_SEEDS
from reproduction.beside.page import write_page
from reproduction.beside.pictures import draw_pictures
from reproduction.beside.results import list_published, make_results
from reproduction.beside.runs import (
    Size,
    choose_settings,
    list_reported,
    list_tuning,
    score_tries,
)

_FOLDER = Path("reproduction/beside")  # of the documentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is run, and where it is written."""

    out: Path = Path("runs/beside")
    """Folder of the runs."""
    docs: Path = Path("docs")
    """Folder of the documentation, for the results file, the pictures and the page."""
    num_updates: int = Size.num_updates
    """Client updates of a run that is reported."""
    num_tuning_updates: int = Size.num_tuning_updates
    """Client updates of a run that settings are chosen by."""
    seeds: tuple[int, ...] = SEEDS
    """Seeds to report."""
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS
    """Seeds to choose settings by."""
    together: int | None = None
    """Most runs that share a program (default: 8 on a CPU, else 64)."""
    max_minutes: float | None = None
    """Minutes after which it saves and stops, with exit code 3."""
    published: bool = True
    """Whether to run the settings whose results others published."""
    run: bool = True
    """Whether to run what is missing, or only to write the page of the results."""
    compile_cache: bool = True
    """Whether to keep compiled programs on the disk for the next command."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("num_updates", "num_tuning_updates", "together", "max_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0, got {value}")
        for name in ("seeds", "tuning_seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name} must be one or more, got none")
        both = set(self.seeds) & set(self.tuning_seeds)
        if both:
            raise ValueError(f"seeds must not be tuning seeds, got {min(both)} in both")

    @property
    def size(self) -> Size:
        """How much is run."""
        fields = {field.name for field in dataclasses.fields(Size)}
        own = {k: v for k, v in dataclasses.asdict(self).items() if k in fields}
        return Size(**own)


def main() -> None:
    """Run what is missing, then write what came of it."""
    prepare_process()
    show_help(Flags, "beside_others.py", __doc__ or "")
    flags = parse_flags(Flags, "")
    choose_compile_cache(flags.compile_cache)
    console = Console()
    folder = flags.docs / _FOLDER
    path = folder / "results.json"
    if flags.run:
        results = _run(flags, console)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(_write_json(results), encoding="utf-8")
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail(f"docs must hold {_FOLDER}/results.json, got {flags.docs} ({error})")
    page = flags.docs / "beside_others.md"
    for picture in draw_pictures(results, folder):
        console.print(f"wrote {picture}", highlight=False, soft_wrap=True)
    page.write_text(write_page(results), encoding="utf-8")
    console.print(f"wrote {page}", highlight=False, soft_wrap=True)


def _run(flags: Flags, console: Console) -> dict[str, Any]:
    """Run what is missing; end the process when time is up."""
    size, out = flags.size, flags.out
    end = time.monotonic() + 60 * (flags.max_minutes or math.inf)

    def run_all(points: Sequence[Point]) -> None:
        left = (end - time.monotonic()) / 60
        run_all_points(
            points,
            out,
            console,
            together=flags.together,
            max_minutes=None if math.isinf(left) else max(left, 1e-6),
        )

    tuning = list_tuning(size, out)
    run_all([run.point for run in tuning])
    chosen = choose_settings(score_tries(tuning))
    run_all([run.point for run in list_reported(size, chosen, out)])
    if flags.published:
        run_all([point for _, _, point in list_published(out)])
    pieces = [
        json.loads(line)
        for line in (out / "pieces.jsonl").read_text("utf-8").splitlines()
    ]
    return make_results(size, out, pieces, published=flags.published)


def _write_json(results: Mapping[str, Any]) -> str:
    """Return a results file with a line for every run, so that changes can be read."""
    text = json.dumps(results, separators=(",", ":"))
    return text.replace('{"method"', '\n{"method"') + "\n"


if __name__ == "__main__":
    main()
