"""The mean staleness follows from the concurrency alone: a law of conservation.

Let M tasks be under way at any time, each triggered the moment another one ends. An
arrival makes a version, by which each of the M - 1 others ages by one; the new task has
age 0. After T arrivals the ages that were gained are those of all tasks at their ends,
and those of the M that never arrive:

    sum of d_t + sum of lost ages + sum of (T - tau_j) = (M - 1) T

So the mean staleness is M - 1 less the ages of the tail over T, whoever is slow.
"""

import numpy as np
import pytest

from fedasync_jax import fleet
from fedasync_jax.fleet import make_fleet, make_network
from fedasync_jax.schedule.schedulers import Immediate
from fedasync_jax.schedule.simulation import simulate
from fedasync_jax.schedule.trace import UNFINISHED

_NUM_CLIENTS = 40
_LAWS = {
    "constant": fleet.constant(),
    "uniform": fleet.uniform(0.2, 3.0),
    "exponential": fleet.exponential(),
    "log-normal": fleet.log_normal(1.5),
    "pareto": fleet.pareto(1.2),
    "tiers": fleet.tiers([0.2], [8.0]),
}


def _simulate(law, concurrency, num_updates, **kwargs):
    """Run clients whose own speed, tasks and network all follow the law."""
    rng = np.random.default_rng(5)
    network = make_network(
        _NUM_CLIENTS, downlink=20.0, uplink=9.0, latency=0.1, law=_LAWS[law], rng=rng
    )
    devices = make_fleet(
        _NUM_CLIENTS,
        rng=rng,
        client_law=_LAWS[law],
        task_law=_LAWS[law],
        network=network,
        **kwargs,
    )
    return simulate(
        devices,
        num_updates,
        scheduler=Immediate(concurrency),
        num_steps=(1, 4),
        num_bytes=3,
        rng=np.random.default_rng(6),
    )


def _sum_ages(trace):
    """Return the ages of lost and of unfinished tasks, and the number of the latter."""
    lost = trace.lost
    unfinished = lost.reason == UNFINISHED
    made = np.searchsorted(trace.arrival_time, lost.end_time[~unfinished])
    of_lost = (made - lost.start_version[~unfinished]).sum()
    of_rest = (trace.num_updates - lost.start_version[unfinished]).sum()
    return of_lost, of_rest, unfinished.sum()


@pytest.mark.parametrize("num_updates", [1, 17, 3000])
@pytest.mark.parametrize("concurrency", [1, 2, 13, _NUM_CLIENTS])
@pytest.mark.parametrize("law", _LAWS)
def test_ages_are_gained_by_all_but_the_one_that_arrives(law, concurrency, num_updates):
    trace = _simulate(law, concurrency, num_updates)
    of_lost, of_rest, num_unfinished = _sum_ages(trace)
    assert of_lost == 0 and num_unfinished == concurrency
    assert trace.staleness.sum() + of_rest == (concurrency - 1) * num_updates


@pytest.mark.parametrize("law", ["exponential", "log-normal"])
def test_tasks_that_are_lost_take_their_ages_with_them(law):
    trace = _simulate(law, 13, 3000, failure_rate=0.3)
    of_lost, of_rest, num_unfinished = _sum_ages(trace)
    assert of_lost > 1000 and num_unfinished == 13
    assert trace.staleness.sum() + of_lost + of_rest == 12 * 3000


@pytest.mark.parametrize("law", _LAWS)
def test_after_the_start_the_mean_staleness_is_the_concurrency_less_one(law):
    staleness = _simulate(law, 13, 20_000).staleness[2000:]
    assert staleness.mean() == pytest.approx(12, abs=0.4)
    if law != "constant":
        assert staleness.std() > 1  # the mean is that of very different distributions
