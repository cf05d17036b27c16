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
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.table import Table

import fedasync_jax as fa
from benchmarks import workloads
from benchmarks.clock_speed import measure_clock
from benchmarks.engine_speed import EngineSpeed, make_table, measure_engine
from benchmarks.fleet_sizes import SIZES, measure_engine_sizes, measure_fleets
from benchmarks.timing import Candidate
from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.jobs import cores
from fedasync_jax.jobs.machine import describe_hardware, device_peak_mb, host_peak_mb
from fedasync_jax.jobs.versions import describe_versions

_LOWEST = {
    "num_updates": 1,
    "repeats": 1,
    "seed": 0,
    "chunk": 0,
    "max_width": 1,
    "num_devices": 0,
}
_TORCH = "torch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """Measure the speed of the engine, or of the virtual clock, on this machine.

    Prints a table and, as the last line, a JSON object whose keys are always the same.
    """

    workload: str = "mlp"
    """mlp: train a 64-64-10 network on 100 clients; cnn: four convolutions on images of
    24x24x3, 10 steps of batch 50; lstm: the paper's language model, 2 steps of 20 texts
    of 35 tokens; schedule: only the clock."""
    num_updates: int | None = None
    """Client updates in one repeat. Default: 20,000, for cnn 24, for lstm 64."""
    repeats: int | None = None
    """Timed repeats, of which the median counts. Default: 5, for cnn and lstm 3."""
    seed: int = 0
    """Seed of data, schedule and training."""
    clients: tuple[int, ...] = ()
    """Numbers of clients to compare, of mlp and schedule. Default: 100, for schedule
    also 10,000 and 1,000,000."""
    json: Path | None = None
    """File to write the JSON object to as well. Default: none."""
    against: str | None = None
    """torch: time the same steps of cnn or lstm in PyTorch as well. Default: none."""
    tiny: bool = False
    """Shrink cnn and lstm, to try this program; their speeds mean nothing then."""

    convolution: str = "auto"
    """Convolution of cnn: xla or patches; auto: the faster on this back end."""
    chunk: int | None = None
    """Tasks that a device trains under one vmap, 0 for all. Default: automatic."""
    max_width: int | None = None
    """Tasks in one call of the engine. Default: automatic."""
    num_devices: int = 0
    """Devices to use, 0 for all."""

    def __post_init__(self) -> None:
        """Check the fields."""
        _require_one_of("workload", self.workload, WORKLOADS)
        _require_one_of(
            "convolution", self.convolution, ("auto", *fa.models.CONVOLUTIONS)
        )
        if self.against is not None:
            _require_one_of("against", self.against, (_TORCH,))
            large = [name for name, workload in WORKLOADS.items() if workload.is_large]
            _require_one_of("workload against torch", self.workload, large)
            if importlib.util.find_spec(_TORCH) is None:
                raise ValueError("against torch needs PyTorch: pip install torch")
        if self.clients:
            _require_one_of("workload by clients", self.workload, ("mlp", "schedule"))
        for count in self.clients:
            if count < 1:
                raise ValueError(f"clients must be >= 1, got {count}")
        for name, low in _LOWEST.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be >= {low}, got {value}")
        path = self.json
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ValueError(f"json must be a file in a folder that exists, got {path}")

    def count_updates(self) -> int:
        """Return T."""
        return self.num_updates or WORKLOADS[self.workload].num_updates

    def count_repeats(self) -> int:
        """Return the number of timed repeats."""
        return self.repeats or WORKLOADS[self.workload].repeats


def _require_one_of(name: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


class Benchmark(NamedTuple):
    """What can be measured.

    Attributes:
      make_job: what the engine trains; None: only the clock is measured.
      is_large: whether a task is large (``choose_batching``).
      num_updates: in one repeat, unless the settings say so.
      repeats: likewise.
    """

    make_job: Callable[[BenchmarkSettings], workloads.BenchmarkJob] | None
    is_large: bool
    num_updates: int
    repeats: int


def _make_mlp(settings: BenchmarkSettings) -> workloads.BenchmarkJob:
    """Make the job of the small network."""
    return workloads.make_mlp_job(settings.count_updates(), settings.seed)


def _make_cnn(settings: BenchmarkSettings) -> workloads.BenchmarkJob:
    """Make the job of the convolutional network."""
    sizes = workloads.TINY_CNN if settings.tiny else workloads.CNNSizes()
    convolution = _choose_convolution(settings)
    return workloads.make_cnn_job(
        settings.count_updates(), settings.seed, sizes, convolution
    )


def _make_lstm(settings: BenchmarkSettings) -> workloads.BenchmarkJob:
    """Make the job of the language model."""
    sizes = workloads.TINY_LSTM if settings.tiny else workloads.LSTMSizes()
    return workloads.make_lstm_job(settings.count_updates(), settings.seed, sizes)


WORKLOADS: Mapping[str, Benchmark] = {
    "mlp": Benchmark(_make_mlp, False, 20_000, 5),
    "cnn": Benchmark(_make_cnn, True, 24, 3),
    "lstm": Benchmark(_make_lstm, True, 64, 3),
    "schedule": Benchmark(None, False, 20_000, 5),
}


def _choose_convolution(settings: BenchmarkSettings) -> fa.models.Convolution:
    """Return the convolution of cnn on this back end."""
    return fa.models.choose_convolution(settings.convolution, jax.default_backend())


def make_batching(settings: BenchmarkSettings) -> fa.Batching:
    """Return the engine's choice, with what the settings override."""
    devices = jax.devices()
    if settings.num_devices > len(devices):
        raise ValueError(
            f"num_devices must be in 0..{len(devices)} on this machine, "
            f"got {settings.num_devices}"
        )
    large_tasks = WORKLOADS[settings.workload].is_large
    if settings.workload == "cnn":  # patches can stand in a loop and under vmap
        large_tasks = _choose_convolution(settings).unroll
    batching = fa.engine.choose_batching(
        devices[: settings.num_devices or None], large_tasks=large_tasks
    )
    if settings.chunk is not None:
        batching = dataclasses.replace(batching, chunk=settings.chunk or None)
    if settings.max_width is not None:
        batching = dataclasses.replace(batching, max_width=settings.max_width)
    return batching


def measure(
    settings: BenchmarkSettings, batching: fa.Batching
) -> tuple[dict[str, Any], list[Table]]:
    """Return the speeds under their keys, and the tables for people."""
    num_updates, repeats = settings.count_updates(), settings.count_repeats()
    make_job = WORKLOADS[settings.workload].make_job
    if make_job is None:
        sizes = settings.clients or SIZES
        rate, table = measure_clock(num_updates, repeats, settings.seed)
        rows, fleets = measure_fleets(sizes, num_updates, repeats, settings.seed)
        return report_speeds(rate) | {"by_clients": rows}, [table, fleets]
    if settings.clients:
        rows, table = measure_engine_sizes(
            settings.clients, batching, num_updates, repeats, settings.seed
        )
        slowest = min(row["updates_per_s"] for row in rows)
        return report_speeds(slowest) | {"by_clients": rows}, [table]
    job = make_job(settings)
    others = [_make_torch_loops] if settings.against == _TORCH else []
    measured = measure_engine(job, batching, repeats, *others)
    title = f"{settings.workload}, {num_updates:,} updates"
    table = make_table(title, measured, repeats)
    return report_speeds(measured.speeds["engine"].median, measured), [table]


def _make_torch_loops(job: workloads.BenchmarkJob) -> Mapping[str, Candidate]:
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
        "compile_s": None if measured is None else measured.compile_s,
        "engine_peak_mb": None if measured is None else measured.engine_peak_mb,
        "by_clients": None,
    }


def report(
    settings: BenchmarkSettings, batching: fa.Batching, speeds: dict[str, Any]
) -> dict[str, Any]:
    """Return all that is worth keeping, under keys that never change."""
    asked = dataclasses.asdict(settings)
    del asked["json"]
    used = {
        "num_updates": settings.count_updates(),
        "repeats": settings.count_repeats(),
        "chunk": batching.chunk,
        "max_width": batching.max_width,
        "num_devices": batching.num_devices,
    }
    versions = describe_versions()
    if settings.against == _TORCH:
        versions[_TORCH] = importlib.metadata.version(_TORCH)
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
    settings = parse_flags(BenchmarkSettings, BenchmarkSettings.__doc__ or "")
    try:
        batching = make_batching(settings)
    except ValueError as error:
        fail(error)
    with Console(stderr=True).status(f"measuring {settings.workload}"):
        speeds, tables = measure(settings, batching)
    line = json.dumps(report(settings, batching, speeds))
    Console().print(*tables)
    print(line)
    if settings.json is not None:
        settings.json.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
