"""Measure many runs in one program against the same runs one after the other.

    python scripts/many_speed.py                     a small network on 100 clients
    python scripts/many_speed.py --workload cnn      four convolutions

The runs have the paper's sampled staleness, at most ``--max-staleness`` versions, so
that a single run offers a wave of few tasks at a time. Speeds are client updates of all
runs per second, in turns; prints a table and, as the last line, a JSON object.
"""

import dataclasses
import functools
import json
from collections.abc import Callable

import jax
import numpy as np

import fedasync_jax as fa
from benchmarks import workloads
from benchmarks.timing import Candidate, measure_speeds
from fedasync_jax.cli.flags import parse_flags
from fedasync_jax.jobs import cores
from fedasync_jax.jobs.machine import describe_hardware
from fedasync_jax.jobs.versions import describe_versions

_JOBS: dict[str, tuple[int, bool, Callable[[int], workloads.BenchmarkJob]]] = {
    "mlp": (2000, False, lambda seed: workloads.make_mlp_job(1, seed)),
    "cnn": (
        16,
        True,
        lambda seed: workloads.make_cnn_job(
            1,
            seed,
            workloads.CNNSizes(),
            fa.models.choose_convolution("auto", jax.default_backend()),
        ),
    ),
    "lstm": (
        16,
        True,
        lambda seed: workloads.make_lstm_job(1, seed, workloads.LSTMSizes()),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is measured."""

    workload: str = "mlp"
    """mlp, cnn or lstm."""
    runs: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of runs side by side."""
    max_staleness: int = 4
    """Newest versions to draw the start from."""
    num_updates: int | None = None
    """Updates of each run. Default: 2,000, of cnn and lstm 16."""
    max_width: int | None = None
    """Tasks in one call. Default: automatic."""
    repeats: int = 3
    """Timed repeats, of which the median counts."""
    seed: int = 0
    """Seed of data and schedules."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.workload not in _JOBS:
            raise ValueError(
                f"workload must be one of {', '.join(_JOBS)}, got {self.workload!r}"
            )
        for name in ("runs", "max_staleness", "num_updates", "max_width", "repeats"):
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and number < 1:
                    raise ValueError(f"{name} must be >= 1, got {number}")


def main() -> None:
    """Measure and print."""
    cores.use_all_cores()
    flags = parse_flags(Flags, __doc__ or "")
    num_updates, large, make_job = _JOBS[flags.workload]
    num_updates = flags.num_updates or num_updates
    batching = fa.engine.choose_batching(large_tasks=large)
    if flags.max_width is not None:
        batching = dataclasses.replace(batching, max_width=flags.max_width)
    runs = make_runs(
        make_job(flags.seed),
        max(flags.runs),
        num_updates,
        max_staleness=flags.max_staleness,
        seed=flags.seed,
    )
    rows = []
    for count in flags.runs:
        some = runs[:count]
        total = count * num_updates
        candidates = [
            Candidate(
                "one by one", total, functools.partial(run_one_by_one, some, batching)
            ),
            Candidate(
                "together", total, functools.partial(run_together, some, batching)
            ),
        ]
        for candidate in candidates:
            candidate.run()  # compiles
        alone, together = measure_speeds(candidates, flags.repeats)
        row = {"runs": count, "one_by_one": alone.median, "together": together.median}
        rows.append(row)
        print(
            f"{count:>3} runs: {alone.median:>9,.1f} updates/s one by one, "
            f"{together.median:>9,.1f} together, x {together.median / alone.median:.2f}"
        )
    result = {
        "rows": rows,
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "settings": {**dataclasses.asdict(flags), "num_updates": num_updates},
    }
    print(json.dumps(result))


def make_runs(
    job: workloads.BenchmarkJob,
    num_runs: int,
    num_updates: int,
    *,
    max_staleness: int = 4,
    seed: int = 0,
) -> list[fa.Run]:
    """Return runs of a job with schedules of their own."""
    federation = job.federation
    steps = int(federation.trace.num_steps[0])
    num_clients = len(job.clients.counts)
    runs = []
    for number in range(num_runs):
        trace = fa.sampled_staleness(
            num_clients,
            num_updates,
            max_staleness=max_staleness,
            num_steps=steps,
            rng=np.random.default_rng([seed, number]),
        )
        weights = fa.mixing.make_weights(
            0.6, fa.staleness.polynomial(0.5), trace.staleness
        )
        key = jax.random.fold_in(federation.key, number)
        mixer = fa.mixing.weighted(weights)
        worker, variables = federation.local_update, federation.variables
        runs.append(fa.Run(trace, worker, mixer, variables, key))
    return runs


def run_one_by_one(runs: list[fa.Run], batching: fa.Batching) -> None:
    """Run one after the other."""
    for run in runs:
        result = fa.run(*run[:5], batching=batching)
        jax.block_until_ready(result.state.variables)


def run_together(runs: list[fa.Run], batching: fa.Batching) -> None:
    """Run all in one program."""
    results = fa.run_many(runs, batching=batching)
    jax.block_until_ready([result.state.variables for result in results])


if __name__ == "__main__":
    main()
