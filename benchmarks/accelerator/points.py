"""What is measured on an accelerator, the most telling first."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import fedasync_jax as fa
from benchmarks import workloads
from benchmarks.engine_speed import measure_engine
from benchmarks.hardware import count_work, measure_job, measure_peak
from benchmarks.many_speed import make_runs, run_one_by_one, run_together
from benchmarks.timing import time_call, time_in_turns
from fedasync_jax.jobs.machine import device_peak_mb
from fedasync_jax.schedule.trace import make_waves

WIDTHS = (512, 64, 8, 1, 128, 256, 32)
RUNS = (1, 8, 64, 2, 4, 16, 32)
WORKLOADS = ("mlp", "cnn", "lstm")
MIXINGS = ("product", "scan")
CONVOLUTIONS = ("patches", "xla")
HALF = "BF16_BF16_F32"

_WAVES = {"mlp": 40, "cnn": 4, "lstm": 4}
_REPEATS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement.

    Attributes:
      kind: "width" of waves, "runs" side by side, or "ceiling": the engine beside the
        same steps without federation.
      workload: mlp, cnn or lstm.
      width: tasks in a wave; None: the engine's choice.
      mixing: "product" or "scan".
      convolution: of cnn.
      precision: of matrix products, see ``jax.default_matmul_precision``; None: the
        default of the back end.
      runs: side by side.
    """

    kind: str
    workload: str
    width: int | None = None
    mixing: str = "product"
    convolution: str = "patches"
    precision: str | None = None
    runs: int = 1

    @property
    def name(self) -> str:
        """Return what tells it from others, in words."""
        fields = dataclasses.asdict(self).values()
        return " ".join(str(value) for value in fields)


def list_points() -> list[Point]:
    """Return all points."""
    found = list(_list_points())
    return list(dict.fromkeys(found))


def _list_points() -> Iterator[Point]:
    of_width = functools.partial(Point, kind="width")
    # First what the defaults follow from: the width, the mixing, the convolution.
    for width in WIDTHS:
        for workload in WORKLOADS:
            yield of_width(workload=workload, width=width)
        if width in WIDTHS[:2]:
            for workload in WORKLOADS:
                yield of_width(workload=workload, width=width, mixing="scan")
                yield of_width(workload=workload, width=width, precision=HALF)
            yield of_width(workload="cnn", width=width, convolution="xla")
        if width == WIDTHS[1]:
            for workload in WORKLOADS:
                yield Point(kind="ceiling", workload=workload)
            for runs in RUNS:
                yield Point(kind="runs", workload="mlp", runs=runs)
    # Then what is left of the grid.
    for width in WIDTHS:
        for workload in WORKLOADS:
            yield of_width(workload=workload, width=width, mixing="scan")
        yield of_width(workload="cnn", width=width, convolution="xla")
    for runs in RUNS:
        yield Point(kind="runs", workload="cnn", runs=runs)


def measure_point(point: Point, *, tiny: bool = False) -> dict[str, Any]:
    """Measure a point; its numbers by name.

    Args:
      point: what.
      tiny: whether the workloads shrink, to try this program.
    """
    measure = {"width": _measure_width, "runs": _measure_runs}
    precision = jax.default_matmul_precision(point.precision or "default")
    with precision:
        return measure.get(point.kind, _measure_ceiling)(point, tiny)


def _measure_width(point: Point, tiny: bool) -> dict[str, Any]:
    """Time the engine at a width of waves."""
    width = point.width or 1
    num_updates = (2 if tiny else _WAVES[point.workload]) * width
    # Twice as many tasks in flight as a wave has keep the waves full.
    job = _make_job(point, num_updates, 2 * width, tiny)
    batching = fa.Batching(
        max_width=width, mesh=_make_mesh(), product=point.mixing == "product"
    )

    def run_engine() -> Any:
        result = fa.run(*job.federation, batching=batching)
        return jax.block_until_ready(result.state.variables)

    first = time_call(run_engine)
    (seconds,) = time_in_turns([run_engine], 1 if tiny else _REPEATS)
    rate = num_updates / statistics.median(seconds)
    waves = list(make_waves(job.federation.trace.start_version, width))
    return {
        "updates_per_s": rate,
        "samples_per_s": rate * job.samples,
        "flops_per_s": rate * count_work(job).flops,
        "compile_s": first - statistics.median(seconds),
        "mean_width": num_updates / len(waves),
        "device_peak_mb": device_peak_mb(),
    }


def _measure_runs(point: Point, tiny: bool) -> dict[str, Any]:
    """Time runs with the paper's sampled staleness, one by one and together."""
    num_updates = 8 if tiny else {"mlp": 500}.get(point.workload, 32)
    job = _make_job(point, num_updates, 4, tiny)
    runs = make_runs(job, point.runs, num_updates)
    batching = fa.engine.choose_batching()
    calls = [
        functools.partial(run_one_by_one, runs, batching),
        functools.partial(run_together, runs, batching),
    ]
    for call in calls:
        call()  # compiles
    columns = time_in_turns(calls, 1 if tiny else _REPEATS)
    total = point.runs * num_updates
    alone, together = (total / statistics.median(seconds) for seconds in columns)
    return {"one_by_one": alone, "together": together, "ratio": together / alone}


def _measure_ceiling(point: Point, tiny: bool) -> dict[str, Any]:
    """Time the engine as it chooses, beside its ceilings and a plain product."""
    num_updates = 8 if tiny else {"mlp": 20_480}.get(point.workload, 512)
    job = _make_job(point, num_updates, 8 if tiny else 512, tiny)
    batching = fa.engine.choose_batching(task=measure_job(job))
    repeats = 1 if tiny else _REPEATS
    measured = measure_engine(job, batching, repeats)
    speeds = {f"{name}_per_s": s.median for name, s in measured.speeds.items()}
    return speeds | {
        "width": batching.max_width,
        "share_of_peak": measured.share_of_peak,
        "peak_flops_per_s": measured.peak_flops,
        "engine_peak_mb": measured.engine_peak_mb,
        "device_peak_mb": device_peak_mb(),
    }


def measure_products(*, tiny: bool = False) -> dict[str, float]:
    """Return operations per second of plain matrix products, by precision."""
    found = {}
    for precision in ("default", "highest", HALF):
        with jax.default_matmul_precision(precision):
            found[precision] = measure_peak(_make_mesh(), 1 if tiny else 5)
    return found


def _make_mesh() -> Mesh | None:
    devices = jax.devices()
    return Mesh(np.array(devices), ("devices",)) if len(devices) > 1 else None


def _make_job(
    point: Point, num_updates: int, concurrency: int, tiny: bool
) -> workloads.BenchmarkJob:
    num_clients = max(100, concurrency)
    if point.workload == "mlp":
        return workloads.make_mlp_job(num_updates, 0, num_clients, concurrency)
    sizes: dict[str, Callable[[], Any]] = {
        "cnn": lambda: workloads.TINY_CNN if tiny else workloads.CNNSizes(),
        "lstm": lambda: workloads.TINY_LSTM if tiny else workloads.LSTMSizes(),
    }
    chosen = dataclasses.replace(
        sizes[point.workload](),
        num_clients=num_clients,
        samples=4 if tiny else {"cnn": 50, "lstm": 10}[point.workload],
        concurrency=concurrency,
    )
    if isinstance(chosen, workloads.LSTMSizes):
        return workloads.make_lstm_job(num_updates, 0, chosen)
    convolution = fa.models.choose_convolution(point.convolution, jax.default_backend())
    return workloads.make_cnn_job(num_updates, 0, chosen, convolution)
