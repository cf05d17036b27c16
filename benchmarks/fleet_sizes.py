"""Speed against the number of clients: of the virtual clock, and of the engine."""

import functools
import statistics
import time
from collections.abc import Sequence

import jax
import numpy as np
from rich.table import Table

import fedasync_jax as fa
from benchmarks import workloads
from benchmarks.timing import time_in_turns
from fedasync_jax.fleet import availability
from fedasync_jax.jobs.machine import host_peak_mb
from fedasync_jax.schedule.trace import UNFINISHED

SIZES = (100, 10_000, 1_000_000)
_IN_FLIGHT = 20
_EVENTS = 4  # of a task: triggered, downloaded, trained, arrived or lost
_MODEL = 20_000  # bytes
_HOUR = 3600.0


def measure_fleets(
    sizes: Sequence[int], num_updates: int, repeats: int, seed: int
) -> tuple[list[dict[str, float]], Table]:
    """Measure the virtual clock with availability, network and losses on.

    Returns:
      For every size and habit the speed, and the table.
    """
    table = Table(title=f"fleets, {num_updates:,} updates, {_IN_FLIGHT} in flight")
    for column in ("clients", "there", "to make", "tasks/s", "events/s", "peak memory"):
        table.add_column(column, justify="right")
    table.caption = (
        "event: a task is triggered, downloaded, trained, arrived or lost; there: "
        "share of the clients"
    )
    rows = []
    for size in sizes:
        for habit in ("half", "mobile"):
            make = functools.partial(_make_fleet, size, habit, seed)
            (seconds_to_make,) = time_in_turns([make], repeats)
            fleet = make()
            run = functools.partial(_simulate, fleet, num_updates, seed)
            lost = run().lost.reason
            (seconds,) = time_in_turns([run], repeats)
            num_tasks = num_updates + int(np.sum(lost != UNFINISHED))
            row = {
                "clients": size,
                "there": _count_there(fleet),
                "make_s": statistics.median(seconds_to_make),
                "tasks_per_s": num_tasks / statistics.median(seconds),
                "peak_mb": host_peak_mb(),
            }
            row["events_per_s"] = _EVENTS * row["tasks_per_s"]
            rows.append(row)
            table.add_row(
                f"{size:,}",
                f"{row['there']:.0%}",
                f"{row['make_s']:.2f} s",
                f"{row['tasks_per_s']:,.0f}",
                f"{row['events_per_s']:,.0f}",
                f"{row['peak_mb']:,.0f} MB",
            )
    return rows, table


def measure_engine_sizes(
    sizes: Sequence[int],
    batching: fa.Batching,
    num_updates: int,
    repeats: int,
    seed: int,
) -> tuple[list[dict[str, float]], Table]:
    """Measure the engine on the small network, all sizes in turns."""
    table = Table(title=f"mlp, {num_updates:,} updates")
    for column in ("clients", "updates/s", "of the fastest", "data ready after"):
        table.add_column(column, justify="right")
    jobs, ready = [], []
    for size in sizes:
        begin = time.perf_counter()
        job = workloads.make_mlp_job(num_updates, seed, size)
        jax.block_until_ready(job.federation.local_update)
        ready.append(time.perf_counter() - begin)
        jobs.append(job)

    def run(job: workloads.BenchmarkJob) -> None:
        result = fa.run(*job.federation, batching=batching)
        jax.block_until_ready(result.state.variables)

    runs = [functools.partial(run, job) for job in jobs]
    for first in runs:
        first()  # compiles
    speeds = [num_updates / statistics.median(s) for s in time_in_turns(runs, repeats)]
    rows = []
    for size, speed, seconds in zip(sizes, speeds, ready, strict=True):
        rows.append({"clients": size, "updates_per_s": speed, "make_s": seconds})
        share = speed / max(speeds)
        table.add_row(f"{size:,}", f"{speed:,.0f}", f"{share:.0%}", f"{seconds:.1f} s")
    return rows, table


def _make_fleet(num_clients: int, habit: str, seed: int) -> fa.fleet.Fleet:
    """Make phones that are away half of the time, or mostly (``--fleet mobile``)."""
    rng = np.random.default_rng(seed)
    there = availability.on_off(_HOUR, _HOUR, rng=rng)
    if habit == "mobile":
        zone = rng.integers(24, size=num_clients)
        there = availability.all_of(
            availability.daily(22 * _HOUR, 8 * _HOUR, shift=zone * _HOUR),
            availability.on_off(8 * _HOUR, 2 * _HOUR, rng=rng),
            availability.on_off(2 * _HOUR, _HOUR / 6, rng=rng),
        )
    return fa.make_fleet(
        num_clients,
        rng=rng,
        client_law=fa.fleet.log_normal(0.5),
        task_law=fa.fleet.log_normal(0.25),
        seconds_per_step=20.0,
        network=fa.fleet.make_network(
            num_clients,
            downlink=1e6,
            uplink=2.5e5,
            latency=0.2,
            law=fa.fleet.log_normal(1.0),
            rng=rng,
        ),
        availability=there,
        when_away="lose",
        failure_rate=0.02,
    )


def _simulate(fleet: fa.fleet.Fleet, num_updates: int, seed: int) -> fa.schedule.Trace:
    return fa.simulate(
        fleet,
        num_updates,
        scheduler=fa.Immediate(min(_IN_FLIGHT, fleet.num_clients)),
        num_steps=5,
        num_bytes=_MODEL,
        rng=np.random.default_rng(seed),
    )


def _count_there(fleet: fa.fleet.Fleet) -> float:
    """Return the share of the clients that are there, the mean over a day."""
    clients = np.arange(min(fleet.num_clients, 10_000))
    hours = np.arange(24.0) * _HOUR
    return float(np.mean([fleet.availability(clients, now)[0] for now in hours]))
