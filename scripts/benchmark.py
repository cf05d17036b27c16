"""Measure how fast this machine does federated learning, and against which ceiling.

    python scripts/benchmark.py                       engine on a small network
    python scripts/benchmark.py --workload schedule   virtual clock and width of waves

A workload is one function, with an entry in ``WORKLOADS``. Speeds are medians over
repeats that take turns with those of the ceiling, so that a busy moment of the machine
meets both.

Shapes: T updates, C clients, D devices, W tasks under one vmap.
"""

import contextlib
import dataclasses
import functools
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import _devices
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _cli import fail, parse_flags
from _versions import describe_versions
from jax.sharding import Mesh, PartitionSpec
from rich.console import Console
from rich.table import Table

import fedasync_jax as fa
from fedasync_jax import tree

_LOWEST = {
    "num_updates": 1,
    "repeats": 1,
    "seed": 0,
    "chunk": 0,
    "max_width": 1,
    "num_devices": 0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Measure the speed of the engine, or of the virtual clock, on this machine.

    Prints a table and, as the last line, a JSON object whose keys are always the same.
    """

    workload: str = "mlp"
    """mlp: train a 64-64-10 network on 100 clients; schedule: only the clock."""
    num_updates: int = 20_000
    """Client updates in one repeat."""
    repeats: int = 5
    """Timed repeats, of which the median counts."""
    seed: int = 0
    """Seed of data, schedule and training."""
    json: Path | None = None
    """File to write the JSON object to as well. Default: none."""

    chunk: int | None = None
    """Tasks that a device trains under one vmap, 0 for all. Default: automatic."""
    max_width: int | None = None
    """Tasks in one call of the engine. Default: automatic."""
    num_devices: int = 0
    """Devices to use, 0 for all."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.workload not in WORKLOADS:
            allowed = ", ".join(WORKLOADS)
            raise ValueError(
                f"workload must be one of {allowed}, got {self.workload!r}"
            )
        for name, low in _LOWEST.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be >= {low}, got {value}")
        path = self.json
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ValueError(f"json must be a file in a folder that exists, got {path}")


class Measurement(NamedTuple):
    """What a workload yields.

    Attributes:
      updates_per_s: client updates (of the schedule: events) per wall-clock second.
      ceiling_updates_per_s: the same local steps in one fused loop, without federation;
        None: there is no such thing.
      all_devices_updates_per_s: such a loop on every device at once.
      compile_s: seconds that the first run took beyond a later one; None: the same.
      table: for people.
    """

    updates_per_s: float
    ceiling_updates_per_s: float | None
    all_devices_updates_per_s: float | None
    compile_s: float | None
    table: Table


class Federation(NamedTuple):
    """A workload of the engine: arguments of ``fedasync_jax.run``."""

    trace: fa.Trace
    local_update: fa.LocalUpdate
    mixer: fa.Mixer
    variables: fa.Variables
    key: jax.Array


def measure_mlp(settings: Settings, batching: fa.Batching) -> Measurement:
    """Measure the engine on 100 clients with 18 samples each and a 64-64-10 network."""
    num_clients, num_samples, num_steps, batch_size = 100, 1800, 5, 10
    rng = np.random.default_rng(settings.seed)
    arrays = {
        "x": rng.normal(size=(num_samples, 64)).astype(np.float32),
        "y": rng.integers(10, size=num_samples).astype(np.int32),
    }
    partition = fa.data.iid(num_samples, num_clients, rng=rng)
    model = fa.models.make_classifier("mlp", (64,), 10, hidden=(64,))
    local_update = fa.make_local_update(
        model,
        fa.data.make_client_data(arrays, partition),
        optax.sgd(0.05),
        batch_size=batch_size,
        max_steps=num_steps,
    )
    trace = fa.simulate(
        fa.make_fleet(num_clients, rng=rng, task_law=fa.fleet.uniform(0.5, 1.5)),
        settings.num_updates,
        scheduler=fa.Immediate(num_clients),
        num_steps=num_steps,
        rng=rng,
    )
    mixer = fa.mixing.fedasync(0.6, fa.staleness.polynomial(0.5))
    init_key, key = jax.random.split(jax.random.key(settings.seed))
    federation = Federation(trace, local_update, mixer, model.init(init_key), key)
    return measure_engine(federation, settings, batching)


def measure_engine(
    federation: Federation, settings: Settings, batching: fa.Batching
) -> Measurement:
    """Time the engine and its ceiling in turns."""

    def run_engine() -> None:
        result = fa.run(*federation, batching=batching)
        jax.block_until_ready(result.state)

    first = time_call(run_engine)
    one_loop = choose_ceiling(federation, None)
    all_loops = choose_ceiling(federation, batching.mesh)
    runs = [run_engine, one_loop.run, all_loops.run]
    seconds = time_in_turns(runs, settings.repeats)
    num_updates = federation.trace.num_updates
    engine, one, every = (num_updates / statistics.median(s) for s in seconds)
    compile_s = first - statistics.median(seconds[0])

    table = Table(title=f"{settings.workload}, {num_updates:,} updates")
    table.add_column("what")
    for column in ("updates/s", "slowest", "fastest", "engine is"):
        table.add_column(column, justify="right")
    names = (
        f"engine: chunk {batching.chunk or 'all'}, max width {batching.max_width}, "
        f"{batching.num_devices} device(s)",
        f"no federation: one fused loop, {one_loop.width} under vmap",
        f"no federation: such a loop on each device, {all_loops.width} under vmap",
    )
    for name, times, speed in zip(names, seconds, (engine, one, every), strict=True):
        figures = (speed, num_updates / max(times), num_updates / min(times))
        table.add_row(name, *(f"{f:,.0f}" for f in figures), f"{engine / speed:.2f}x")
    table.caption = f"{settings.repeats} repeats in turns; compiling {compile_s:.1f} s"
    return Measurement(engine, one, every, compile_s, table)


class Ceiling(NamedTuple):
    """Local steps without federation.

    Attributes:
      width: models side by side on a device.
      run: does all of them and waits.
    """

    width: int
    run: Callable[[], None]


def choose_ceiling(federation: Federation, mesh: Mesh | None) -> Ceiling:
    """Return the fastest of some widths, compiled and tried once."""
    num_devices = 1 if mesh is None else mesh.size
    per_device = max(federation.trace.num_updates // num_devices, 1)
    widths = [w for w in (1, 4, 8, 16, 32, 128, 512) if w <= per_device]
    ceilings = [Ceiling(w, make_ceiling(federation, mesh, w)) for w in widths]
    for ceiling in ceilings:
        ceiling.run()  # compiles
    return min(ceilings, key=lambda ceiling: time_call(ceiling.run))


def make_ceiling(
    federation: Federation, mesh: Mesh | None, width: int
) -> Callable[[], None]:
    """Return the same local steps in one jitted loop that knows no server.

    On every device ``width`` models are trained side by side, each going on from where
    its last task left it: nothing is gathered, mixed, stored or exchanged. The last
    turn of the loop may train a few tasks more than T.
    """
    trace, axis = federation.trace, "devices"
    mesh = mesh or Mesh(np.array(jax.devices()[:1]), (axis,))
    axis = mesh.axis_names[0]
    num_turns = -(-trace.num_updates // (mesh.size * width))
    (num_steps,) = {int(steps) for steps in trace.num_steps}

    def train_on_device(local_update, columns, variables, key):
        device = jax.lax.axis_index(axis)

        def train_task(variables, client, task):
            task_key = jax.random.fold_in(key, task)
            return local_update(variables, client, task_key, num_steps)

        def turn(i, carry):
            variables, loss_sum = carry
            first_row = (i * mesh.size + device) * width
            rows = (first_row + jnp.arange(width)) % trace.num_updates
            clients, tasks = tree.take(columns, rows)
            variables, info = jax.vmap(train_task)(variables, clients, tasks)
            return variables, loss_sum + info.loss

        start = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (width, *leaf.shape)), variables
        )
        return jax.lax.fori_loop(0, num_turns, turn, (start, jnp.zeros(width)))

    train = jax.jit(
        jax.shard_map(
            train_on_device,
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(axis),
            check_vma=False,
        )
    )
    columns = (jnp.asarray(trace.client), jnp.asarray(trace.task))
    arguments = (federation.local_update, columns, federation.variables, federation.key)
    return lambda: jax.block_until_ready(train(*arguments)) and None


CONCURRENCIES = (10, 100, 1000)
DELAYS: Mapping[str, tuple[fa.fleet.DelayLaw, tuple[float, ...]]] = {
    # delays of a task: (law, expected mean width of a wave at 10, 100, 1000 in flight)
    "equal": (fa.fleet.constant(), (10, 100, 1000)),
    "uniform 0.5 .. 1.5": (fa.fleet.uniform(0.5, 1.5), (7.9, 61, 541)),
    "log-normal, sigma 0.25": (fa.fleet.log_normal(0.25), (8.5, 68, 578)),
    "log-normal, sigma 1": (fa.fleet.log_normal(1.0), (3.9, 18, 89)),
    "exponential": (fa.fleet.exponential(), (3.7, 12, 40)),
}
# max_staleness K: expected mean width, sum over j of (1 - 1/K) .. (1 - j/K)
SAMPLED = {4: 2.2, 16: 4.7}


def measure_schedule(settings: Settings, batching: fa.Batching) -> Measurement:
    """Measure the virtual clock; an event is an arrival and the task that replaces it.

    The headline is the median over all delays and concurrencies.
    """
    del batching
    table = Table(title=f"schedule, {settings.num_updates:,} updates")
    for column in ("delays", "in flight", "mean wave", "expected", "events/s"):
        table.add_column(column, justify="left" if column == "delays" else "right")
    table.caption = "mean wave: updates in it; expected: over 20,000 updates"
    rates = []
    for name, (law, expected) in DELAYS.items():
        for concurrency, width in zip(CONCURRENCIES, expected, strict=True):
            make = functools.partial(simulate, settings, law, concurrency)
            rate, trace = time_trace(make, settings.repeats)
            rates.append(rate)
            add_schedule_row(table, name, f"{concurrency}", trace, width, rate)
    for max_staleness, width in SAMPLED.items():
        make = functools.partial(sample, settings, max_staleness)
        rate, trace = time_trace(make, settings.repeats)
        name = f"sampled staleness, max {max_staleness}"
        add_schedule_row(table, name, "", trace, width, rate)
    return Measurement(statistics.median(rates), None, None, None, table)


def simulate(settings: Settings, law: fa.fleet.DelayLaw, concurrency: int) -> fa.Trace:
    """Run the virtual clock with as many clients as the largest concurrency."""
    rng = np.random.default_rng(settings.seed)
    return fa.simulate(
        fa.make_fleet(max(CONCURRENCIES), rng=rng, task_law=law),
        settings.num_updates,
        scheduler=fa.Immediate(concurrency),
        rng=rng,
    )


def sample(settings: Settings, max_staleness: int) -> fa.Trace:
    """Draw the paper's schedule for 100 clients."""
    rng = np.random.default_rng(settings.seed)
    return fa.sampled_staleness(
        100, settings.num_updates, max_staleness=max_staleness, rng=rng
    )


def time_trace(make: Callable[[], fa.Trace], repeats: int) -> tuple[float, fa.Trace]:
    """Return updates per second, the median, and the trace."""
    trace = make()
    (seconds,) = time_in_turns([make], repeats)
    return trace.num_updates / statistics.median(seconds), trace


def add_schedule_row(
    table: Table, name: str, in_flight: str, trace: fa.Trace, width: float, rate: float
) -> None:
    """Add the mean wave of a trace, beside the one expected."""
    mean = trace.num_updates / sum(1 for _ in fa.make_waves(trace.start_version))
    table.add_row(name, in_flight, f"{mean:.1f}", f"{width:g}", f"{rate:,.0f}")


WORKLOADS: Mapping[str, Callable[[Settings, fa.Batching], Measurement]] = {
    "mlp": measure_mlp,
    "schedule": measure_schedule,
}


def time_call(call: Callable[[], Any]) -> float:
    """Return the wall-clock seconds of a call, which must wait for its own results."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def time_in_turns(calls: list[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Return the seconds of every call, timed A B A B ..."""
    seconds = [[time_call(call) for call in calls] for _ in range(repeats)]
    return [list(column) for column in zip(*seconds, strict=True)]


def make_batching(settings: Settings) -> fa.Batching:
    """Return the engine's choice, with what the settings override."""
    devices = jax.devices()
    if settings.num_devices > len(devices):
        raise ValueError(
            f"num_devices must be in 0..{len(devices)} on this machine, "
            f"got {settings.num_devices}"
        )
    batching = fa.choose_batching(devices[: settings.num_devices or None])
    if settings.chunk is not None:
        batching = dataclasses.replace(batching, chunk=settings.chunk or None)
    if settings.max_width is not None:
        batching = dataclasses.replace(batching, max_width=settings.max_width)
    return batching


def report(
    settings: Settings, batching: fa.Batching, measured: Measurement
) -> dict[str, Any]:
    """Return all that is worth keeping, under keys that never change."""
    speed, ceiling = measured.updates_per_s, measured.ceiling_updates_per_s
    all_devices = measured.all_devices_updates_per_s
    asked = dataclasses.asdict(settings)
    del asked["json"]
    used = {
        "chunk": batching.chunk,
        "max_width": batching.max_width,
        "num_devices": batching.num_devices,
    }
    return {
        "workload": settings.workload,
        "updates_per_s": speed,
        "ceiling_updates_per_s": ceiling,
        "ratio": None if ceiling is None else speed / ceiling,
        "ceiling_all_devices_updates_per_s": all_devices,
        "ratio_all_devices": None if all_devices is None else speed / all_devices,
        "compile_s": measured.compile_s,
        "peak_mb": host_peak_mb(),
        "device_peak_mb": device_peak_mb(),
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "settings": asked | used,
    }


def host_peak_mb() -> float:
    """Return the most memory that this process has had, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def device_peak_mb() -> float | None:
    """Return the most memory that the first device has used, in MB, if it tells."""
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return None if peak is None else peak / 1e6


def describe_hardware() -> dict[str, Any]:
    """Return what the numbers depend on most."""
    return {
        "cpu_model": cpu_model(),
        "cores": _devices.count_usable_cores(),
        "devices": [device.device_kind for device in jax.devices()],
        "platform": jax.default_backend(),
    }


def cpu_model() -> str:
    """Return the name that the processor gives itself, as far as it can be found."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.check_output(command, text=True, timeout=10).strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Parse, measure, print."""
    _devices.use_all_cores()
    settings = parse_flags(Settings, Settings.__doc__ or "")
    try:
        batching = make_batching(settings)
    except ValueError as error:
        fail(error)
    with Console(stderr=True).status(f"measuring {settings.workload}"):
        measured = WORKLOADS[settings.workload](settings, batching)
    line = json.dumps(report(settings, batching, measured))
    Console().print(measured.table)
    print(line)
    if settings.json is not None:
        settings.json.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
