"""Measure what checkpoints cost: the same run with and without them, in turns.

    python scripts/checkpoint_cost.py

The run is that of ``benchmark.py``: a 64-64-10 network on 100 clients. A checkpoint is
due every ``--every`` updates, but is left out while writing would take more than its
share of the time, so a fast run writes fewer. Prints a table and, as the last line, a
JSON object.
"""

import dataclasses
import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax

import fedasync_jax as fa
from benchmarks import workloads
from benchmarks.timing import Candidate, measure_speeds
from fedasync_jax.cli.flags import parse_flags
from fedasync_jax.engine.loop import OnCall
from fedasync_jax.engine.state import Snapshot
from fedasync_jax.jobs import cores
from fedasync_jax.jobs.machine import describe_hardware
from fedasync_jax.jobs.versions import describe_versions
from fedasync_jax.storage.checkpoints import Checkpoints


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is measured."""

    every: int = 100
    """Updates between checkpoints at the least."""
    num_updates: int = 100_000
    """Updates of a run."""
    repeats: int = 5
    """Timed runs of each kind, of which the median counts."""
    seed: int = 0
    """Seed of data, schedule and training."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("every", "num_updates", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


def main() -> None:
    """Measure and print."""
    cores.use_all_cores()
    flags = parse_flags(Flags, __doc__ or "")
    job = workloads.make_mlp_job(flags.num_updates, flags.seed)
    written: list[int] = []  # by run
    with tempfile.TemporaryDirectory() as scratch:
        folders = (Path(scratch) / str(number) for number in itertools.count())
        without = Candidate("without", flags.num_updates, lambda: _run(job))
        saving = Candidate(
            "with",
            flags.num_updates,
            lambda: written.append(_run_saving(job, next(folders), flags.every)),
        )
        for candidate in (without, saving):
            candidate.run()  # compiles
        speeds = measure_speeds([without, saving], flags.repeats)
    for candidate, speed in zip((without, saving), speeds, strict=True):
        print(
            f"{candidate.name:<8} checkpoints {speed.median:>9,.0f} updates/s "
            f"({speed.slowest:,.0f} to {speed.fastest:,.0f})"
        )
    overhead = speeds[0].median / speeds[1].median - 1
    print(f"{min(written)} to {max(written)} checkpoints a run; cost {overhead:.1%}")
    result = {
        "overhead": overhead,
        "updates_per_s": speeds[0].median,
        "updates_per_s_with": speeds[1].median,
        "checkpoints": written,
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "settings": dataclasses.asdict(flags),
    }
    print(json.dumps(result))


def _run(
    job: workloads.BenchmarkJob,
    on_call: OnCall | None = None,
) -> None:
    result = fa.run(*job.federation, on_call=on_call)
    jax.block_until_ready(result.state.variables)


def _run_saving(job: workloads.BenchmarkJob, folder: Path, every: int) -> int:
    """Run and return how many checkpoints were written."""
    count = 0
    with Checkpoints(folder, every=every) as checkpoints:

        def save(versions: list[int], make_snapshot: Callable[[int], Snapshot]) -> None:
            nonlocal count
            if checkpoints.is_due(versions[0]):
                checkpoints.save(make_snapshot(0), {})
                count += 1

        _run(job, save)
    return count


if __name__ == "__main__":
    main()
