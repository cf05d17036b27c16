"""Speed of the virtual clock, and the width of the waves that it leaves.

Shapes: T updates.
"""

import functools
import statistics
from collections.abc import Callable, Mapping

import numpy as np
from rich.table import Table

import fedasync_jax as fa
from benchmarks.timing import time_in_turns

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


def measure_clock(num_updates: int, repeats: int, seed: int) -> tuple[float, Table]:
    """Measure the virtual clock; a task is an arrival and what replaces it.

    Returns:
      Tasks per second, the median over all delays and concurrencies, and the table.
    """
    table = Table(title=f"schedule, {num_updates:,} updates")
    for column in ("delays", "in flight", "mean wave", "expected", "tasks/s"):
        table.add_column(column, justify="left" if column == "delays" else "right")
    table.caption = "mean wave: updates in it; expected: over 20,000 updates"
    rates = []
    for name, (law, expected) in DELAYS.items():
        for concurrency, width in zip(CONCURRENCIES, expected, strict=True):
            make = functools.partial(_simulate, num_updates, seed, law, concurrency)
            rate, trace = _time_trace(make, repeats)
            rates.append(rate)
            _add_row(table, name, f"{concurrency}", trace, width, rate)
    for max_staleness, width in SAMPLED.items():
        make = functools.partial(_sample, num_updates, seed, max_staleness)
        rate, trace = _time_trace(make, repeats)
        name = f"sampled staleness, max {max_staleness}"
        _add_row(table, name, "", trace, width, rate)
    return statistics.median(rates), table


def _simulate(
    num_updates: int, seed: int, law: fa.fleet.DelayLaw, concurrency: int
) -> fa.schedule.Trace:
    """Run the virtual clock with as many clients as the largest concurrency."""
    rng = np.random.default_rng(seed)
    return fa.simulate(
        fa.make_fleet(max(CONCURRENCIES), rng=rng, task_law=law),
        num_updates,
        scheduler=fa.Immediate(concurrency),
        rng=rng,
    )


def _sample(num_updates: int, seed: int, max_staleness: int) -> fa.schedule.Trace:
    """Draw the paper's schedule for 100 clients."""
    rng = np.random.default_rng(seed)
    return fa.sampled_staleness(100, num_updates, max_staleness=max_staleness, rng=rng)


def _time_trace(
    make: Callable[[], fa.schedule.Trace], repeats: int
) -> tuple[float, fa.schedule.Trace]:
    """Return updates per second, the median, and the trace."""
    trace = make()
    (seconds,) = time_in_turns([make], repeats)
    return trace.num_updates / statistics.median(seconds), trace


def _add_row(
    table: Table,
    name: str,
    in_flight: str,
    trace: fa.schedule.Trace,
    width: float,
    rate: float,
) -> None:
    """Add the mean wave of a trace, beside the one expected."""
    mean = trace.num_updates / sum(
        1 for _ in fa.schedule.make_waves(trace.start_version)
    )
    table.add_row(name, in_flight, f"{mean:.1f}", f"{width:g}", f"{rate:,.0f}")
