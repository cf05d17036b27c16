"""Tune every method of the default job with the same care, and report all of them.

    python scripts/fair_comparison.py

Settings are chosen on validation samples, with seeds that are not reported. Runs lie
below --out; those that are there are not made again. After an interruption or
--max-minutes, repeat the command to continue. It writes the results as JSON and the
page, on which nothing is typed.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.fair.page import write_fair_page
from benchmarks.fair.results import Record, Search, list_reports, read_try
from benchmarks.fair.search import (
    CONTENDERS,
    REFERENCE,
    REPORTED_SEEDS,
    TUNING_SEEDS,
    VALID_SHARE,
    Try,
    list_search,
    make_try_point,
)
from fedasync_jax.cli.flags import fail
from fedasync_jax.cli.run_flags import (
    RunFlags,
    check_positive,
    find_deadline,
    start_command,
)
from fedasync_jax.cli.together import run_all_points
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.versions import describe_versions
from fedasync_jax.storage.writing import write_file

_RESULTS = "fair_comparison.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(RunFlags):
    """What is compared, and where it is written."""

    out: Path = Path("runs/fair")
    """Folder of the runs."""
    docs: Path = Path("docs")
    """Folder of fair_comparison.md and fair_comparison.json."""
    methods: tuple[str, ...] = tuple(CONTENDERS)
    """Methods to compare, by their names on the page."""
    seeds: tuple[int, ...] = REPORTED_SEEDS
    """Seeds to report."""
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS
    """Seeds to choose settings with."""
    num_updates: int | None = None
    """Updates of every run, in place of those of the default job."""
    together: int | None = 16
    """Most runs that share a program."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in self.methods:
            if name not in CONTENDERS:
                known = "; ".join(CONTENDERS)
                raise ValueError(f"methods must be some of {known}, got {name!r}")
        if REFERENCE not in self.methods:
            raise ValueError(
                f"methods must have {REFERENCE}, which all are compared with, got none"
            )
        for name in ("seeds", "tuning_seeds"):
            values = getattr(self, name)
            if len(set(values)) < 2:
                shown = " ".join(map(str, values)) or "none"
                raise ValueError(f"{name} must be two or more, got {shown}")
        both = sorted(set(self.seeds) & set(self.tuning_seeds))
        if both:
            raise ValueError(f"seeds must be none of the tuning_seeds, got {both[0]}")
        super().__post_init__()
        check_positive(self, "num_updates")


def main() -> None:
    """Search, report, write."""
    flags = start_command(Flags, "python scripts/fair_comparison.py", __doc__ or "")
    console = Console(highlight=False)
    if flags.run:
        run = functools.partial(_run, flags, console, find_deadline(flags.max_minutes))
        tried = list_search(flags.methods, flags.tuning_seeds)
        records = run(tried, "search", valid_share=VALID_SHARE)
        reports = list_reports(Search(records), flags.methods, flags.seeds)
        results = {
            "versions": describe_versions(),
            "num_updates": flags.num_updates or make_settings()["num_updates"],
            "methods": flags.methods,
            "search": records,
            "reported": run(reports, "reported"),
        }
        text = json.dumps(results, separators=(",", ":"))
        text = text.replace("[[", "[\n[").replace("],[", "],\n[")  # a line for each run
        flags.docs.mkdir(parents=True, exist_ok=True)
        write_file(flags.docs / _RESULTS, (text + "\n").encode())
    _write_page(flags.docs, console)


def _run(
    flags: Flags,
    console: Console,
    deadline: float,
    tries: Sequence[Try],
    where: str,
    **fields: Any,
) -> list[Record]:
    """Run what is missing of it, and return what came of all."""
    if flags.num_updates is not None:
        fields["num_updates"] = flags.num_updates
    out, is_search = flags.out / where, "valid_share" in fields
    try:
        points = {one: make_try_point(one, out, **fields) for one in tries}
    except ValueError as error:
        fail(error)
    run_all_points(
        list(points.values()),
        out,
        console,
        together=flags.together,
        deadline=deadline,
    )
    return [
        read_try(one, point.path, is_search=is_search) for one, point in points.items()
    ]


def _write_page(docs: Path, console: Console) -> None:
    try:
        results = json.loads((docs / _RESULTS).read_text(encoding="utf-8"))
        page = write_fair_page(results)
    except (OSError, ValueError, LookupError, TypeError) as error:
        fail(f"docs must have a {_RESULTS} that this command wrote ({error})")
    write_file(docs / "fair_comparison.md", page.encode())
    for name in (_RESULTS, "fair_comparison.md"):
        console.print(f"wrote {docs / name}", soft_wrap=True)


if __name__ == "__main__":
    main()
