"""Measure on an accelerator all that is unmeasured, in one command that can go on.

    python scripts/accelerator.py --minutes 25 --data-path DATA

The most telling measurements come first. Every number is written to
``--out``/accelerator.json as soon as it is there; the same command goes on with what is
missing, after a stop, a crash or another 25 minutes. What is then left of the time goes
to the paper's CIFAR-10 grid, if there are data for it (``scripts/reproduce.py --scale
paper``, which goes on in the same way). At the end come the tables of
docs/performance.md, and what follows from them for the defaults.
"""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from benchmarks.accelerator.points import list_points, measure_point, measure_products
from benchmarks.accelerator.tables import count_done, put_into, write_section
from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.cli.plain_help import show_help
from fedasync_jax.cli.startup import choose_compile_cache
from fedasync_jax.jobs import cores
from fedasync_jax.jobs.machine import describe_hardware
from fedasync_jax.jobs.versions import describe_versions
from fedasync_jax.storage.writing import write_file

_REPRODUCE = Path(__file__).parents[2] / "scripts" / "reproduce.py"
_LEAST_MINUTES = 1.0  # that the grid is begun for
_OF_THIS = ("hardware", "versions", "tiny")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is measured, and for how long."""

    minutes: float = 25.0
    """Begin no measurement after so many minutes; the one that runs comes to its end,
    which takes seconds, with compilation up to a minute or two."""
    out: Path = Path("runs/accelerator")
    """Folder of accelerator.json, performance.md and the runs of the grid."""
    data_path: Path | None = None
    """CIFAR-10, as for scripts/train.py. Default: the grid is left out."""
    docs: Path | None = None
    """Page whose section between its marks is written anew, such as
    docs/performance.md. Default: none."""
    limit: int | None = None
    """Measure at most so many points, to try this program. Default: all."""
    tiny: bool = False
    """Shrink the workloads, to try this program; their speeds mean nothing then."""
    compile_cache: bool = True
    """Whether to keep compiled programs on the disk for the next command."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.minutes > 0:
            raise ValueError(f"minutes must be > 0, got {self.minutes}")
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit must be >= 0, got {self.limit}")
        if self.data_path is not None and not self.data_path.exists():
            raise ValueError(f"data_path must exist, got {self.data_path}")
        if self.docs is not None:
            if not self.docs.is_file():
                raise ValueError(f"docs must be a page that exists, got {self.docs}")
            put_into(self.docs.read_text(encoding="utf-8"), "")


def main() -> None:
    """Measure what is missing, then tell."""
    cores.use_all_cores()
    show_help(Flags, "python scripts/accelerator.py", __doc__ or "")
    flags = parse_flags(Flags, __doc__ or "")
    deadline = time.monotonic() + 60 * flags.minutes
    choose_compile_cache(flags.compile_cache)
    console, path = Console(highlight=False), flags.out / "accelerator.json"
    try:
        results = _read(path, tiny=flags.tiny)
        flags.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        fail(error)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _measure(flags, results, path, deadline, console)
        _run_grid(flags, deadline, console)
    except KeyboardInterrupt:
        console.print("stopped; repeat the command to continue")
    section = write_section(results)
    write_file(flags.out / "performance.md", section.encode())
    if flags.docs is not None:
        page = put_into(flags.docs.read_text(encoding="utf-8"), section)
        write_file(flags.docs, page.encode())
    console.print(section, soft_wrap=True, markup=False)


def _read(path: Path, *, tiny: bool) -> dict[str, Any]:
    """Return what has been measured here before, or the beginning."""
    new = {
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "tiny": tiny,
        "products": {},
        "points": {},
    }
    if not path.exists():
        return new
    results = json.loads(path.read_text(encoding="utf-8"))
    for key in _OF_THIS:
        if results.get(key) != new[key]:
            raise ValueError(
                f"out must be a folder of this machine and these versions: its {key} "
                f"is {results.get(key)!r}, not {new[key]!r}"
            )
    return results


def _measure(
    flags: Flags, results: dict[str, Any], path: Path, deadline: float, console: Console
) -> None:
    """Measure points until time is up; keep each."""

    def keep() -> None:
        write_file(path, (json.dumps(results, indent=1) + "\n").encode())

    if not results["products"]:
        results["products"] = measure_products(tiny=flags.tiny)
        keep()
    points = list_points()[: flags.limit]
    missing = [point for point in points if point.name not in results["points"]]
    for point in missing:
        if time.monotonic() > deadline:
            break
        begin = time.monotonic()
        try:
            numbers = measure_point(point, tiny=flags.tiny)
        except jax.errors.JaxRuntimeError as error:  # as a rule, too little memory
            reason = "no memory" if "RESOURCE_EXHAUSTED" in str(error) else "failed"
            numbers = {"failed": reason, "error": str(error).splitlines()[0]}
        jax.clear_caches()  # a program keeps its memory
        results["points"][point.name] = numbers
        keep()
        seconds = time.monotonic() - begin
        shown = " ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in numbers.items()
        )
        console.print(f"{seconds:5.1f} s  {point.name}: {shown}", soft_wrap=True)
    done = count_done(results["points"], points)
    console.print(f"{done} of {len(points)} measurements are in {path}")


def _run_grid(flags: Flags, deadline: float, console: Console) -> None:
    """Spend what is left of the time on the paper's runs."""
    left = (deadline - time.monotonic()) / 60
    if flags.data_path is None or left < _LEAST_MINUTES:
        return
    console.print(f"the paper's CIFAR-10 grid, for {left:.1f} minutes")
    command = [
        *(sys.executable, str(_REPRODUCE), "--scale", "paper", "--figure"),
        *("cifar-staleness-4", "cifar-staleness-16", "cifar-sweep"),
        *("--data-path", str(flags.data_path), "--out", str(flags.out / "grid")),
        *("--max-minutes", f"{left:.2f}", "--no-central"),
    ]
    done = subprocess.run(command, check=False)
    console.print(f"the grid ended with exit code {done.returncode}")


if __name__ == "__main__":
    main()
