"""Speed of the engine on a job, beside its ceilings and, if asked for, PyTorch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from rich.table import Table

import fedasync_jax as fa
from benchmarks.ceilings import choose_ceiling
from benchmarks.hardware import Work, count_work, measure_peak
from benchmarks.timing import Candidate, Speed, measure_speeds, time_call
from benchmarks.workloads import BenchmarkJob
from fedasync_jax.jobs.machine import host_peak_mb


class EngineSpeed(NamedTuple):
    """What was measured, in client updates per wall-clock second.

    Attributes:
      candidates: what was timed: "engine", "one_device", "all_devices", rivals.
      speeds: of each of them.
      compile_s: seconds that the engine's first run took beyond a later one.
      engine_peak_mb: most memory before anything but the engine had run, in MB.
      work: what a task asks for.
      samples: of a task.
      peak_flops: per second, of plain matrix products on all devices at once.
    """

    candidates: Mapping[str, Candidate]
    speeds: Mapping[str, Speed]
    compile_s: float
    engine_peak_mb: float
    work: Work
    samples: int
    peak_flops: float

    @property
    def share_of_peak(self) -> float:
        """Operations of the training per second, as a share of the peak."""
        return self.speeds["engine"].median * self.work.flops / self.peak_flops


def measure_engine(
    job: BenchmarkJob,
    batching: fa.Batching,
    repeats: int,
    make_rivals: Callable[[BenchmarkJob], Mapping[str, Candidate]] = lambda job: {},
    trace_folder: Path | None = None,
) -> EngineSpeed:
    """Time the engine, its ceilings and its rivals in turns.

    Args:
      job: what is trained.
      batching: how the engine shares the devices, all of which the second ceiling has.
      repeats: calls of each candidate that are timed.
      make_rivals: makes others that do the same steps, by a name of their own; called
        late, so that what they import is no part of the engine's memory.
      trace_folder: where the profiler of JAX writes what one more run of the engine
        does; None: nowhere.
    """
    num_updates = job.federation.trace.num_updates

    def run_engine() -> fa.Variables:
        result = fa.run(*job.federation, batching=batching)
        return jax.block_until_ready(result.state.variables)

    first = time_call(run_engine)
    engine_peak_mb = host_peak_mb()
    forms = {"widths": job.loop_widths, "host_loop": job.host_loop}
    # A task that is long is trained often enough by one device in a D-th of the tasks.
    for_one = num_updates // batching.num_devices if job.host_loop else num_updates
    one = choose_ceiling(job.federation, None, num_updates=max(for_one, 1), **forms)
    every = choose_ceiling(
        job.federation, batching.mesh, num_updates=num_updates, **forms
    )
    rivals = make_rivals(job)
    for rival in rivals.values():
        rival.run()  # warms up
    candidates = {
        "engine": Candidate(_describe_engine(batching), num_updates, run_engine),
        "one_device": one._replace(name=f"ratio: no federation, 1 device, {one.name}"),
        "all_devices": every._replace(
            name=f"ratio_all_devices: no federation, {batching.num_devices} device(s), "
            f"{every.name}"
        ),
        **rivals,
    }
    timed = measure_speeds(list(candidates.values()), repeats)
    speeds = dict(zip(candidates, timed, strict=True))
    compile_s = first - num_updates / speeds["engine"].median
    if trace_folder is not None:
        with jax.profiler.trace(str(trace_folder)):
            run_engine()
    return EngineSpeed(
        candidates,
        speeds,
        compile_s,
        engine_peak_mb,
        count_work(job),
        job.samples,
        measure_peak(batching.mesh, repeats),
    )


def make_table(title: str, measured: EngineSpeed, repeats: int) -> Table:
    """Return the speeds for people."""
    table = Table(title=title)
    table.add_column("what")
    for column in ("updates/s", "slowest", "fastest", "engine is"):
        table.add_column(column, justify="right")
    engine = measured.speeds["engine"].median
    for key, candidate in measured.candidates.items():
        speed = measured.speeds[key]
        figures = (_format_rate(rate) for rate in speed)
        ratio = f"{engine / speed.median:.2f}x"
        table.add_row(candidate.name, *figures, ratio)
    work = measured.work
    table.caption = (
        f"{engine * measured.samples:,.0f} samples/s; {work.flops / 1e6:,.4g} MFLOP a "
        f"task, {engine * work.flops / 1e9:,.4g} GFLOP/s, {measured.share_of_peak:.1%} "
        f"of the {measured.peak_flops / 1e9:,.4g} of plain matrix products\n"
        f"{repeats} repeats in turns; compiling {measured.compile_s:.1f} s; "
        f"peak memory of the engine {measured.engine_peak_mb:,.0f} MB, "
        f"of all {host_peak_mb():,.0f} MB"
    )
    return table


def _describe_engine(batching: fa.Batching) -> str:
    return (
        f"engine: chunk {batching.chunk or 'all'}, max width {batching.max_width}, "
        f"{batching.num_devices} device(s)" + ", mixed by products" * batching.product
    )


def _format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
