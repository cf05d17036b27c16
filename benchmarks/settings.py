"""What the benchmark can be asked for, and what follows from it."""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

import fedasync_jax as fa
from benchmarks import workloads
from benchmarks.hardware import measure_job

_LOWEST = {
    "num_updates": 1,
    "repeats": 1,
    "seed": 0,
    "chunk": 0,
    "max_width": 1,
    "num_devices": 0,
}
TORCH = "torch"
_MIXING = {"scan": False, "product": True}


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
    mixing: str = "auto"
    """How arrivals are mixed: scan, one after the other; product, many at a time by a
    matrix product; auto: scan on a CPU, product on accelerators."""
    trace: Path | None = None
    """Folder in which the profiler of JAX records one more run of the engine, for
    TensorBoard, XProf or Perfetto. Default: none."""

    def __post_init__(self) -> None:
        """Check the fields."""
        _require_one_of("workload", self.workload, WORKLOADS)
        _require_one_of(
            "convolution", self.convolution, ("auto", *fa.models.CONVOLUTIONS)
        )
        _require_one_of("mixing", self.mixing, ("auto", *_MIXING))
        if self.trace is not None:
            if self.clients or not WORKLOADS[self.workload].make_job:
                raise ValueError("trace needs one workload of the engine, no clients")
            if self.trace.is_file() or not self.trace.parent.is_dir():
                raise ValueError(
                    f"trace must be a folder in one that exists, got {self.trace}"
                )
        if self.against is not None:
            _require_one_of("against", self.against, (TORCH,))
            large = [name for name, workload in WORKLOADS.items() if workload.is_large]
            _require_one_of("workload against torch", self.workload, large)
            if importlib.util.find_spec(TORCH) is None:
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


def find_devices(settings: BenchmarkSettings) -> list[Any]:
    """Return the devices to use.

    Raises:
      ValueError: if there are fewer.
    """
    devices = jax.devices()
    if settings.num_devices > len(devices):
        raise ValueError(
            f"num_devices must be in 0..{len(devices)} on this machine, "
            f"got {settings.num_devices}"
        )
    return devices[: settings.num_devices or None]


def make_batching(
    settings: BenchmarkSettings, job: workloads.BenchmarkJob | None = None
) -> fa.Batching:
    """Return the engine's choice, with what the settings override."""
    large_tasks = WORKLOADS[settings.workload].is_large
    if settings.workload == "cnn":  # patches can stand in a loop and under vmap
        large_tasks = _choose_convolution(settings).unroll
    batching = fa.engine.choose_batching(
        find_devices(settings),
        large_tasks=large_tasks,
        task=None if job is None else measure_job(job),
    )
    if settings.chunk is not None:
        batching = dataclasses.replace(batching, chunk=settings.chunk or None)
    if settings.max_width is not None:
        batching = dataclasses.replace(batching, max_width=settings.max_width)
    if settings.mixing != "auto":
        batching = dataclasses.replace(batching, product=_MIXING[settings.mixing])
    return batching
