"""Measure how fast this machine does federated learning, and against which ceiling.

    python scripts/benchmark.py                       engine on a small network
    python scripts/benchmark.py --workload cnn        on a convolutional network
    python scripts/benchmark.py --workload lstm       on the paper's language model
    python scripts/benchmark.py --workload schedule   virtual clock and width of waves
    python scripts/benchmark.py --clients 100 10000 1000000    the engine by fleet size

A workload is one entry in ``WORKLOADS``. Speeds are medians over repeats that take
turns with those of the ceilings and, with ``--against torch``, of PyTorch, so that a
busy moment of the machine meets all of them.

There are two ceilings, the same local steps without federation in the fastest form that
is known: on one device, ``ceiling_updates_per_s`` and ``ratio``, and on all devices at
once, ``ceiling_all_devices_updates_per_s`` and ``ratio_all_devices``. One device is not
always one core: on a CPU, XLA gives a large matrix product the threads that are idle.
So a long task, of cnn or lstm, is judged by the lower of the two ratios.
"""

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

import fedasync_jax as fa
from benchmarks.clock_speed import measure_clock
from benchmarks.engine_speed import EngineSpeed, make_table, measure_engine
from benchmarks.fleet_sizes import SIZES, measure_engine_sizes, measure_fleets
from benchmarks.settings import (
    TORCH,
    WORKLOADS,
    BenchmarkSettings,
    find_devices,
    make_batching,
)
from benchmarks.timing import Candidate
from benchmarks.workloads import BenchmarkJob, make_mlp_job
from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.cli.plain_help import show_help
from fedasync_jax.jobs import cores
from fedasync_jax.jobs.machine import describe_hardware, device_peak_mb, host_peak_mb
from fedasync_jax.jobs.versions import describe_versions

_WORK_KEYS = (
    "compile_s",
    "engine_peak_mb",
    "samples_per_s",
    "task_flops",
    "task_xla_flops",
    "task_bytes_accessed",
    "model_bytes",
    "peak_flops_per_s",
    "share_of_peak",
)


class Measured(NamedTuple):
    """What a run of the benchmark found.

    Attributes:
      speeds: under their keys.
      tables: for people.
      batching: how tasks were batched.
    """

    speeds: dict[str, Any]
    tables: list[Table]
    batching: fa.Batching


def measure(settings: BenchmarkSettings) -> Measured:
    """Measure what the settings ask for."""
    num_updates, repeats = settings.count_updates(), settings.count_repeats()
    make_job = WORKLOADS[settings.workload].make_job
    if make_job is None:
        sizes = settings.clients or SIZES
        rate, table = measure_clock(num_updates, repeats, settings.seed)
        rows, fleets = measure_fleets(sizes, num_updates, repeats, settings.seed)
        speeds = report_speeds(rate) | {"by_clients": rows}
        return Measured(speeds, [table, fleets], make_batching(settings))
    if settings.clients:
        job = make_mlp_job(num_updates, settings.seed, settings.clients[0])
        batching = make_batching(settings, job)
        rows, table = measure_engine_sizes(
            settings.clients, batching, num_updates, repeats, settings.seed
        )
        slowest = min(row["updates_per_s"] for row in rows)
        speeds = report_speeds(slowest) | {"by_clients": rows}
        return Measured(speeds, [table], batching)
    job = make_job(settings)
    batching = make_batching(settings, job)
    others = [_make_torch_loops] if settings.against == TORCH else []
    measured = measure_engine(
        job, batching, repeats, *others, trace_folder=settings.trace
    )
    title = f"{settings.workload}, {num_updates:,} updates"
    table = make_table(title, measured, repeats)
    speeds = report_speeds(measured.speeds["engine"].median, measured)
    return Measured(speeds, [table], batching)


def _make_torch_loops(job: BenchmarkJob) -> Mapping[str, Candidate]:
    """Return the same steps in PyTorch on all cores."""
    from benchmarks import torch_loops  # needs torch, an optional dependency

    return torch_loops.make_torch_loops(job, cores.count_usable_cores())


def report_speeds(speed: float, measured: EngineSpeed | None = None) -> dict[str, Any]:
    """Return speeds and ratios, None for what was not measured."""

    def rate(key: str) -> float | None:
        if measured is None or key not in measured.speeds:
            return None
        return measured.speeds[key].median

    def ratio(key: str) -> float | None:
        other = rate(key)
        return None if other is None else speed / other

    return {
        "updates_per_s": speed,
        "ceiling_updates_per_s": rate("one_device"),
        "ratio": ratio("one_device"),
        "ceiling_all_devices_updates_per_s": rate("all_devices"),
        "ratio_all_devices": ratio("all_devices"),
        "torch_updates_per_s": rate("torch"),
        "torch_channels_last_updates_per_s": rate("torch_channels_last"),
        "ratio_torch": ratio("torch"),
        **_report_work(speed, measured),
        "by_clients": None,
    }


def _report_work(speed: float, measured: EngineSpeed | None) -> dict[str, Any]:
    if measured is None:
        return dict.fromkeys(_WORK_KEYS)
    work = measured.work
    values = (
        measured.compile_s,
        measured.engine_peak_mb,
        speed * measured.samples,
        work.flops,
        work.xla_flops,
        work.bytes_accessed,
        work.model_bytes,
        measured.peak_flops,
        measured.share_of_peak,
    )
    return dict(zip(_WORK_KEYS, values, strict=True))


def report(
    settings: BenchmarkSettings, batching: fa.Batching, speeds: dict[str, Any]
) -> dict[str, Any]:
    """Return all that is worth keeping, under keys that never change."""
    asked = dataclasses.asdict(settings)
    del asked["json"], asked["trace"], asked["mixing"]
    used = {
        "num_updates": settings.count_updates(),
        "repeats": settings.count_repeats(),
        "chunk": batching.chunk,
        "max_width": batching.max_width,
        "num_devices": batching.num_devices,
        "product": batching.product,
    }
    versions = describe_versions()
    if settings.against == TORCH:
        versions[TORCH] = importlib.metadata.version(TORCH)
    return {
        "workload": settings.workload,
        **speeds,
        "peak_mb": host_peak_mb(),
        "device_peak_mb": device_peak_mb(),
        "hardware": describe_hardware(),
        "versions": versions,
        "settings": asked | used,
    }


def main() -> None:
    """Parse, measure, print."""
    cores.use_all_cores()
    show_help(BenchmarkSettings, "fedasync benchmark", __doc__ or "")
    settings = parse_flags(BenchmarkSettings, BenchmarkSettings.__doc__ or "")
    try:
        find_devices(settings)
    except ValueError as error:
        fail(error)
    with Console(stderr=True).status(f"measuring {settings.workload}"):
        speeds, tables, batching = measure(settings)
    line = json.dumps(report(settings, batching, speeds))
    Console().print(*tables)
    print(line)
    if settings.json is not None:
        settings.json.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
