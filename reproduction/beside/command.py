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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fedasync_jax.cli.flags import fail
from fedasync_jax.cli.run_flags import (
    RunFlags,
    check_positive,
    find_deadline,
    start_command,
)
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
from reproduction.pieces import read_pieces

_FOLDER = Path("reproduction/beside")  # of the documentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(RunFlags):
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
    published: bool = True
    """Whether to run the settings whose results others published."""

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        check_positive(self, "num_updates", "num_tuning_updates")
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
    flags = start_command(Flags, "python scripts/beside_others.py", __doc__ or "")
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
    try:
        read_pieces(out)  # a damaged file is told before anything runs
    except (OSError, ValueError) as error:
        fail(error)
    deadline = find_deadline(flags.max_minutes)

    def run_all(points: Sequence[Point]) -> None:
        run_all_points(points, out, console, together=flags.together, deadline=deadline)

    tuning = list_tuning(size, out)
    run_all([run.point for run in tuning])
    chosen = choose_settings(score_tries(tuning))
    run_all([run.point for run in list_reported(size, chosen, out)])
    if flags.published:
        run_all([point for _, _, point in list_published(out)])
    return make_results(size, out, read_pieces(out), published=flags.published)


def _write_json(results: Mapping[str, Any]) -> str:
    """Return a results file with a line for every run, so that changes can be read."""
    text = json.dumps(results, separators=(",", ":"))
    return text.replace('{"method"', '\n{"method"') + "\n"


if __name__ == "__main__":
    main()
