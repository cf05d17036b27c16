"""Schedules: the log of who and when, sampled staleness, repeatable prefixes."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from fedasync_jax import fleet
from fedasync_jax.fleet import Fleet, Network, availability, make_fleet
from fedasync_jax.schedule.local_steps import TimeBudget
from fedasync_jax.schedule.schedulers import Immediate, Periodic, Rounds
from fedasync_jax.schedule.simulation import sampled_staleness, simulate
from fedasync_jax.schedule.trace import FAILED, LATE, LEFT, TIMED_OUT, Trace, make_waves

_NUM_CLIENTS = 12
_SCHEDULERS = [
    Immediate(1),
    Immediate(5),
    Immediate(_NUM_CLIENTS),
    Periodic(0.7, 1),
    Periodic(1.7, 3),
    Periodic(40.0, _NUM_CLIENTS),
    Rounds(1),
    Rounds(4),
    Rounds(_NUM_CLIENTS),
]


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _constant_fleet(*seconds_per_step: float) -> Fleet:
    return Fleet(np.array(seconds_per_step), fleet.constant())


def _simulate(scheduler, num_updates=200, seed=1, **kwargs) -> Trace:
    """Run clients and tasks of random speeds."""
    devices = make_fleet(
        _NUM_CLIENTS,
        rng=_rng(),
        client_law=fleet.log_normal(1.0),
        task_law=fleet.exponential(),
    )
    return simulate(devices, num_updates, scheduler=scheduler, rng=_rng(seed), **kwargs)


def _sample(num_updates=200, seed=1, max_staleness=4, **kwargs) -> Trace:
    return sampled_staleness(
        _NUM_CLIENTS,
        num_updates,
        max_staleness=max_staleness,
        rng=_rng(seed),
        **kwargs,
    )


def _log(trace: Trace) -> list[tuple]:
    """(client, start time, arrival time, start version) of every arrival."""
    columns = (
        trace.client,
        trace.start_time,
        trace.arrival_time,
        trace.start_version,
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _mean_wave_width(trace: Trace) -> float:
    return trace.num_updates / len(list(make_waves(trace.start_version)))


def _stored(trace: Trace) -> np.ndarray:
    """Slot of every new version, -1 for one that is not kept."""
    return np.where(trace.write_slot == trace.num_slots, -1, trace.write_slot)


def _assert_prefix(short: Trace, long: Trace):
    rows = short.num_updates
    for name, column in short.columns().items():
        if name != "write_slot":
            np.testing.assert_array_equal(column, long.columns()[name][:rows], name)
    np.testing.assert_array_equal(_stored(short), _stored(long)[:rows])


# Sampled staleness


@pytest.mark.parametrize("max_staleness", [1, 4, 16])
def test_sampled_staleness_is_uniform_and_zero_based(max_staleness):
    num_updates = 20_000
    staleness = _sample(num_updates, max_staleness=max_staleness).staleness
    assert set(staleness.tolist()) == set(range(max_staleness))
    first = np.arange(max_staleness)
    assert (staleness[:max_staleness] <= first).all()  # no version before 0
    shares = np.bincount(staleness) / num_updates
    np.testing.assert_allclose(shares, 1 / max_staleness, rtol=0.15)


def test_sampled_staleness_is_uniform_among_the_few_first_versions():
    drawn = [_sample(3, seed).start_version[2] for seed in range(600)]
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.07)


def test_sampled_clients_are_uniform_with_replacement():
    trace = _sample(24_000)
    shares = np.bincount(trace.client, minlength=_NUM_CLIENTS) / trace.num_updates
    np.testing.assert_allclose(shares, 1 / _NUM_CLIENTS, rtol=0.15)
    assert (trace.client[1:] == trace.client[:-1]).any()
    assert abs(np.corrcoef(trace.client, trace.staleness)[0, 1]) < 0.03


@pytest.mark.parametrize("num_updates", [1, 3, 4, 5, 50])
@pytest.mark.parametrize("max_staleness", [1, 4, 16])
def test_sampled_slots_are_a_ring(num_updates, max_staleness):
    trace = _sample(num_updates, max_staleness=max_staleness)
    ring = min(max_staleness, num_updates + 1)
    assert trace.num_slots == ring
    version = np.arange(1, num_updates + 1)
    np.testing.assert_array_equal(trace.write_slot, version % max_staleness)
    np.testing.assert_array_equal(trace.read_slot, trace.start_version % max_staleness)


def test_sampled_time_counts_updates():
    trace = _sample(20)
    np.testing.assert_array_equal(trace.start_time, trace.start_version)
    np.testing.assert_array_equal(trace.arrival_time, np.arange(1, 21))
    np.testing.assert_array_equal(trace.task, np.arange(20))


# Prefixes and seeds


@pytest.mark.parametrize("num_updates", [1, 2, 4, 7, 20, 77])
@pytest.mark.parametrize("max_staleness", [1, 4, 16])
def test_longer_sample_repeats_a_shorter_one(num_updates, max_staleness):
    kwargs = {"max_staleness": max_staleness, "num_steps": (1, 5)}
    _assert_prefix(_sample(num_updates, **kwargs), _sample(300, **kwargs))


@pytest.mark.parametrize("num_updates", [1, 2, 4, 5, 7, 12, 20, 77])
@pytest.mark.parametrize("scheduler", _SCHEDULERS)
def test_longer_simulation_repeats_a_shorter_one(scheduler, num_updates):
    short = _simulate(scheduler, num_updates, num_steps=(1, 5))
    _assert_prefix(short, _simulate(scheduler, 300, num_steps=(1, 5)))


def test_prefix_holds_beyond_a_block_of_random_numbers():
    _assert_prefix(_sample(4000), _sample(9000))
    _assert_prefix(_simulate(Immediate(5), 4000), _simulate(Immediate(5), 9000))


@pytest.mark.parametrize("scheduler", _SCHEDULERS)
def test_seed_decides(scheduler):
    first, same, other = (_simulate(scheduler, seed=seed) for seed in (1, 1, 2))
    _assert_prefix(first, same)
    assert (first.arrival_time != other.arrival_time).any()


# The virtual clock: tiny examples by hand


def test_immediate_with_one_worker_is_serial():
    trace = simulate(_constant_fleet(2.0), 3, scheduler=Immediate(1), rng=_rng())
    assert _log(trace) == [(0, 0, 2, 0), (0, 2, 4, 1), (0, 4, 6, 2)]
    assert trace.num_slots == 1


def test_immediate_with_a_fast_and_a_slow_worker():
    """Both always work: at a tie the task that was triggered first arrives first."""
    trace = simulate(_constant_fleet(1.0, 3.0), 8, scheduler=Immediate(2), rng=_rng())
    assert _log(trace) == [
        (0, 0, 1, 0),
        (0, 1, 2, 1),
        (1, 0, 3, 0),  # triggered at 0, the other one that arrives now at 2
        (0, 2, 3, 2),
        (0, 3, 4, 4),
        (0, 4, 5, 5),
        (1, 3, 6, 3),  # sent before the fast one of time 3 had arrived
        (0, 5, 6, 6),
    ]
    assert trace.staleness.tolist() == [0, 0, 2, 1, 0, 0, 3, 1]


def test_equal_speeds_arrive_in_the_order_of_the_triggers():
    trace = simulate(
        _constant_fleet(*[1.0] * 5), 15, scheduler=Immediate(5), rng=_rng()
    )
    np.testing.assert_array_equal(trace.task, np.arange(15))
    assert sorted(trace.client[:5]) == list(range(5))
    np.testing.assert_array_equal(trace.start_version[:5], np.zeros(5))
    np.testing.assert_array_equal(trace.staleness[5:], np.full(10, 4))


def test_periodic_triggers_only_idle_workers():
    """The slow worker is busy at two triggers; at a tie it arrives first."""
    trace = simulate(
        _constant_fleet(1.0, 5.0), 6, scheduler=Periodic(2.0, 2), rng=_rng()
    )
    assert _log(trace) == [
        (0, 0, 1, 0),
        (0, 2, 3, 1),
        (1, 0, 5, 0),
        (0, 4, 5, 2),
        (0, 6, 7, 4),
        (0, 8, 9, 5),
    ]


def test_periodic_arrivals_come_before_a_trigger_of_the_same_time():
    trace = simulate(_constant_fleet(1.0), 3, scheduler=Periodic(1.0, 1), rng=_rng())
    assert _log(trace) == [(0, 0, 1, 0), (0, 1, 2, 1), (0, 2, 3, 2)]


def test_periodic_triggers_are_skipped_while_nobody_is_idle():
    trace = simulate(_constant_fleet(2.5), 2, scheduler=Periodic(1.0, 1), rng=_rng())
    assert _log(trace) == [(0, 0, 2.5, 0), (0, 3, 5.5, 1)]


def test_rounds_wait_for_the_slowest():
    trace = simulate(_constant_fleet(1.0, 3.0, 2.0), 6, scheduler=Rounds(3), rng=_rng())
    assert _log(trace) == [
        (0, 0, 1, 0),
        (2, 0, 2, 0),
        (1, 0, 3, 0),
        (0, 3, 4, 3),
        (2, 3, 5, 3),
        (1, 3, 6, 3),
    ]
    assert trace.num_slots == 1


def test_a_time_out_counts_from_the_trigger_to_the_end_of_the_upload():
    """The slow one would be there at 1 + 2 + 4 = 7."""
    network = Network(np.array([np.inf, 1]), np.array([np.inf, 0.25]), np.zeros(2))
    devices = _constant_fleet(2.0, 2.0)._replace(network=network)
    run = {"scheduler": Immediate(2), "num_bytes": 1, "rng": _rng()}
    trace = simulate(devices, 9, time_out=6.5, **run)
    assert set(trace.client.tolist()) == {0}
    lost = trace.lost
    assert lost.end_time[lost.reason == TIMED_OUT].tolist() == [6.5, 13.0, 19.5]
    trace = simulate(devices, 9, time_out=7.0, **run)
    assert trace.arrival_time[trace.client == 1].tolist() == [7.0, 14.0]
    assert TIMED_OUT not in trace.lost.reason


def test_a_task_may_fail_at_any_moment_of_its_life():
    """While the model is on its way, too: 1 + 2 + 5 seconds."""
    network = Network(np.ones(1), np.array([0.2]), np.zeros(1))
    devices = make_fleet(
        1, rng=_rng(), seconds_per_step=2.0, network=network, failure_rate=0.5
    )
    trace = simulate(devices, 2000, scheduler=Immediate(1), num_bytes=1, rng=_rng())
    np.testing.assert_allclose(trace.arrival_time - trace.start_time, 8.0)
    failed = trace.lost.reason == FAILED
    lives = (trace.lost.end_time - trace.lost.start_time)[failed]
    below = [0.1, 0.25, 0.5, 0.75, 0.9]
    np.testing.assert_allclose(np.quantile(lives / 8, below), below, atol=0.03)


def test_arrivals_come_before_a_client_that_is_back_at_the_same_time():
    windows = np.array([0, 1]), np.array([0.0, 2.0]), np.array([99.0, 99.0])
    there = availability.replay(*windows, num_clients=2)
    devices = _constant_fleet(2.0, 2.0)._replace(availability=there)
    trace = simulate(devices, 3, scheduler=Immediate(2), rng=_rng())
    assert trace.start_time.tolist() == [0, 2, 2]
    assert trace.start_version.tolist() == [0, 1, 1]


def test_a_model_that_arrives_at_the_deadline_is_in_time():
    scheduler = Rounds(2, deadline=2.0)
    trace = simulate(_constant_fleet(1.0, 2.0), 4, scheduler=scheduler, rng=_rng())
    assert trace.arrival_time.tolist() == [1, 2, 3, 4]
    assert trace.start_version.tolist() == [0, 0, 2, 2]


def test_a_round_goes_on_without_a_task_that_is_lost():
    """Three workers for two models; the first of them leaves."""
    windows = np.arange(3), np.zeros(3), np.array([0.5, 99.0, 99.0])
    there = availability.replay(*windows, num_clients=3)
    devices = make_fleet(
        3,
        rng=_rng(),
        seconds_per_step=np.array([5.0, 1.0, 2.0]),
        availability=there,
        when_away="lose",
    )
    trace = simulate(devices, 4, scheduler=Rounds(2, 0.5), rng=_rng())
    assert trace.arrival_time.tolist() == [1, 2, 3, 4]
    assert trace.start_version.tolist() == [0, 0, 2, 2]
    assert trace.lost.reason.tolist().count(LEFT) == 1
    assert LATE not in trace.lost.reason


# When a run ends


@pytest.mark.parametrize("scheduler", [Immediate(3), Periodic(1.0, 3), Rounds(3)])
def test_a_run_that_got_all_its_models_did_not_end_early(scheduler):
    """Even if no further one would ever come."""
    trace = _simulate(scheduler, 12, max_tasks=1)
    assert (trace.num_updates, trace.ended) == (12, "")
    trace = _simulate(scheduler, 13, max_tasks=1)
    assert trace.num_updates == 12
    assert trace.ended.startswith("nobody is available after ")


def test_a_run_ends_when_nothing_arrives_any_more():
    """Windows of a second, tasks of one and a half."""
    start = np.append(0.0, np.arange(20.0, 30_000, 2))
    end = np.append(10.0, start[1:] + 1)
    there = availability.replay(np.zeros(len(start)), start, end, num_clients=1)
    devices = make_fleet(
        1, rng=_rng(), seconds_per_step=1.5, availability=there, when_away="lose"
    )
    trace = simulate(devices, 9, scheduler=Immediate(1), rng=_rng())
    assert trace.arrival_time.tolist() == [1.5, 3.0, 4.5, 6.0, 7.5, 9.0]
    assert trace.ended == "the last 10,000 tasks were all lost"
    assert set(trace.lost.reason.tolist()) == {LEFT}
    assert len(trace.lost.task) == 10_000
    assert trace.lost.end_time[-1] == 20 + 2 * 9998 + 1


def test_a_paused_task_is_given_up_after_a_thousand_returns():
    """Devices are there every other second; the second task needs one return more."""
    start = np.tile(np.arange(0.0, 3000, 2), 2)
    client = np.repeat([0, 1], 1500)
    there = availability.replay(client, start, start + 1, num_clients=2)
    devices = make_fleet(
        2,
        rng=_rng(),
        seconds_per_step=np.array([1000.5, 1001.5]),
        availability=there,
        when_away="pause",
    )
    trace = simulate(devices, 1, scheduler=Immediate(2), rng=_rng())
    assert _log(trace) == [(0, 0.0, 2000.5, 0)]
    left = trace.lost.reason == LEFT
    assert trace.lost.client[left].tolist()[0] == 1
    assert trace.lost.end_time[left].tolist()[0] == 2001.0


def test_a_run_goes_on_as_long_as_a_model_arrives_now_and_then():
    devices = make_fleet(5, rng=_rng(), failure_rate=0.9)
    trace = simulate(devices, 1500, scheduler=Immediate(3), rng=_rng())
    assert (trace.num_updates, trace.ended) == (1500, "")
    assert len(trace.lost.task) > 11_000


def test_a_run_without_a_single_model_is_an_error():
    devices = make_fleet(5, rng=_rng(), seconds_per_step=9.0)
    with pytest.raises(ValueError) as error:
        simulate(devices, 3, scheduler=Immediate(3), time_out=5.0, rng=_rng())
    assert str(error.value) == (
        "fleet must bring back a model, but none ever arrives: the last 10,000 tasks "
        "were all lost"
    )


# The virtual clock: what always holds


def _check_times(trace: Trace):
    assert (np.diff(trace.arrival_time) >= 0).all()
    assert (trace.start_time < trace.arrival_time).all()
    assert len(set(trace.task.tolist())) == trace.num_updates
    order = np.argsort(trace.task)
    assert (np.diff(trace.start_time[order]) >= 0).all()  # numbered by trigger


@pytest.mark.parametrize("scheduler", _SCHEDULERS)
def test_start_version_is_the_number_of_arrivals_before_the_trigger(scheduler):
    trace = _simulate(scheduler)
    _check_times(trace)
    arrived = np.searchsorted(trace.arrival_time, trace.start_time, side="right")
    np.testing.assert_array_equal(trace.start_version, arrived)


@pytest.mark.parametrize("scheduler", _SCHEDULERS)
def test_a_client_works_on_one_task_at_a_time(scheduler):
    trace = _simulate(scheduler, 500)
    for client in range(_NUM_CLIENTS):
        mine = trace.client == client
        starts, ends = trace.start_time[mine], trace.arrival_time[mine]
        assert (starts[1:] >= ends[:-1]).all()


@pytest.mark.parametrize("concurrency", [1, 5, _NUM_CLIENTS])
def test_immediate_keeps_its_concurrency(concurrency):
    """Every arrival triggers exactly one task, at its own time."""
    num_updates = 500
    long = _simulate(Immediate(concurrency), num_updates + 200)
    triggered = np.full(long.task.max() + 1, np.nan)
    triggered[long.task] = long.start_time
    known = ~np.isnan(triggered)
    expected = np.append(np.zeros(concurrency), long.arrival_time)[: len(triggered)]
    np.testing.assert_array_equal(triggered[known], expected[known])
    assert known[:num_updates].mean() > 0.97  # the rest is still on its way
    assert long.num_slots == concurrency
    assert long.count_devices() == concurrency


@pytest.mark.parametrize("concurrency", [1, 5, _NUM_CLIENTS])
@pytest.mark.parametrize("law", [fleet.constant(), fleet.exponential()])
def test_tasks_in_flight_are_as_many_as_the_concurrency(concurrency, law):
    """Also where all arrive at one time, and each is replaced before the next."""
    devices = Fleet(np.ones(_NUM_CLIENTS), law)
    trace = simulate(
        devices, 200, scheduler=Immediate(concurrency), num_steps=2, rng=_rng()
    )
    assert (trace.count_in_flight() == concurrency).all()


def test_tasks_in_flight_without_those_that_were_lost():
    trace = _simulate(Rounds(4))
    assert trace.count_in_flight().tolist() == [4, 3, 2, 1] * 50
    late = _simulate(Rounds(4, over_selection=0.5))
    assert late.count_in_flight().tolist() == [6, 5, 4, 3] * 50


@pytest.mark.parametrize("scheduler", [s for s in _SCHEDULERS if type(s) is Periodic])
def test_periodic_triggers_at_multiples_of_its_interval(scheduler):
    trace = _simulate(scheduler, 500)
    ticks = np.round(trace.start_time / scheduler.interval)
    np.testing.assert_array_equal(trace.start_time, ticks * scheduler.interval)
    most = max(Counter(ticks.tolist()).values())
    assert most <= scheduler.num_triggered
    assert most > 1 or scheduler.num_triggered == 1


@pytest.mark.parametrize("k", [1, 4, _NUM_CLIENTS])
def test_rounds_are_synchronous(k):
    trace = _simulate(Rounds(k))
    row = np.arange(trace.num_updates)
    np.testing.assert_array_equal(trace.start_version, k * (row // k))
    whole = trace.num_updates // k * k
    start, end, client = (
        column[:whole].reshape(-1, k)
        for column in (trace.start_time, trace.arrival_time, trace.client)
    )
    assert (start == start[:, :1]).all()
    np.testing.assert_array_equal(start[1:, 0], end[:-1].max(axis=1))
    assert all(len(set(round_clients)) == k for round_clients in client.tolist())
    assert trace.num_slots == 1


@pytest.mark.parametrize(
    ("k", "over_selection", "expected"),
    [
        (4, 0.0, 4),
        (4, 0.5, 6),
        (3, 0.5, 5),
        (10, 0.1, 11),
        (50, 0.1, 55),
        (4, 99.0, 60),
    ],
)
def test_a_round_triggers_a_share_of_workers_besides(k, over_selection, expected):
    devices = make_fleet(60, rng=_rng(), task_law=fleet.exponential())
    trace = simulate(devices, k, scheduler=Rounds(k, over_selection), rng=_rng())
    assert trace.num_updates == k
    first = trace.lost.start_version == 0
    tasks = np.append(trace.task, trace.lost.task[first])
    assert sorted(tasks.tolist()) == list(range(expected))


def test_idle_workers_are_drawn_uniformly():
    devices = make_fleet(_NUM_CLIENTS, rng=_rng())
    trace = simulate(devices, 12_000, scheduler=Immediate(1), rng=_rng())
    shares = np.bincount(trace.client) / trace.num_updates
    np.testing.assert_allclose(shares, 1 / _NUM_CLIENTS, rtol=0.15)


# Local steps


def test_steps_make_a_task_longer():
    trace = simulate(
        _constant_fleet(0.5), 2, scheduler=Rounds(1), num_steps=4, rng=_rng()
    )
    assert _log(trace) == [(0, 0, 2, 0), (0, 2, 4, 1)]
    assert trace.num_steps.tolist() == [4, 4]


@pytest.mark.parametrize("make", [_sample, lambda **kw: _simulate(Immediate(5), **kw)])
def test_steps_by_number_range_and_client(make):
    assert set(make(num_steps=3).num_steps.tolist()) == {3}
    drawn = make(num_updates=3000, num_steps=(2, 4)).num_steps
    shares = np.bincount(drawn) / len(drawn)
    np.testing.assert_allclose(shares, [0, 0, 1 / 3, 1 / 3, 1 / 3], atol=0.04)
    per_client = np.arange(1, _NUM_CLIENTS + 1)
    trace = make(num_steps=per_client)
    np.testing.assert_array_equal(trace.num_steps, per_client[trace.client])


def test_drawn_steps_stretch_the_time_of_their_own_task():
    devices = make_fleet(_NUM_CLIENTS, rng=_rng(), client_law=fleet.log_normal(1.0))
    trace = simulate(devices, 100, scheduler=Immediate(5), num_steps=(1, 9), rng=_rng())
    seconds = devices.seconds_per_step[trace.client] * trace.num_steps
    np.testing.assert_allclose(trace.arrival_time - trace.start_time, seconds)


# How wide waves are


@pytest.mark.parametrize(
    ("law", "concurrency", "width"),
    [
        (fleet.constant(), 10, 10),
        (fleet.constant(), 100, 100),
        (fleet.uniform(0.5, 1.5), 10, 7.9),
        (fleet.uniform(0.5, 1.5), 100, 61),
        (fleet.log_normal(0.25), 10, 8.5),
        (fleet.log_normal(0.25), 100, 68),
        (fleet.log_normal(1.0), 10, 3.9),
        (fleet.log_normal(1.0), 100, 18),
        (fleet.exponential(), 10, 3.7),
        (fleet.exponential(), 100, 12),
    ],
)
def test_waves_are_about_as_wide_as_designed(law, concurrency, width):
    devices = make_fleet(concurrency, rng=_rng(), task_law=law)
    trace = simulate(devices, 5000, scheduler=Immediate(concurrency), rng=_rng())
    assert _mean_wave_width(trace) == pytest.approx(width, rel=0.15)
    assert trace.num_slots == concurrency


@pytest.mark.parametrize(("max_staleness", "width"), [(4, 2.2), (16, 4.65)])
def test_waves_of_sampled_staleness(max_staleness, width):
    trace = _sample(20_000, max_staleness=max_staleness)
    assert _mean_wave_width(trace) == pytest.approx(width, rel=0.05)


# Errors


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (Immediate(0), "concurrency must be in 1..12 (the number of clients), got 0"),
        (Immediate(13), "concurrency must be in 1..12 (the number of clients), got 13"),
        (
            Periodic(1.0, 0),
            "num_triggered must be in 1..12 (the number of clients), got 0",
        ),
        (
            Periodic(1.0, 13),
            "num_triggered must be in 1..12 (the number of clients), got 13",
        ),
        (Periodic(0.0, 1), "interval must be finite and > 0 seconds, got 0.0"),
        (Periodic(-1.0, 1), "interval must be finite and > 0 seconds, got -1.0"),
        (Periodic(np.nan, 1), "interval must be finite and > 0 seconds, got nan"),
        (Periodic(np.inf, 1), "interval must be finite and > 0 seconds, got inf"),
        (
            Rounds(0),
            "clients_per_round must be in 1..12 (the number of clients), got 0",
        ),
        (
            Rounds(13),
            "clients_per_round must be in 1..12 (the number of clients), got 13",
        ),
        (Rounds(2, -0.1), "over_selection must be finite and >= 0, got -0.1"),
        (Rounds(2, np.nan), "over_selection must be finite and >= 0, got nan"),
        (Rounds(2, np.inf), "over_selection must be finite and >= 0, got inf"),
    ],
)
def test_scheduler_errors(scheduler, message):
    with pytest.raises(ValueError) as error:
        _simulate(scheduler)
    assert str(error.value) == message


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 4.0, np.nan])
@pytest.mark.parametrize("name", ["deadline", "time_out"])
def test_a_limit_must_leave_time_to_train(name, seconds):
    """Of two clients the fastest needs 1 + 4 / 2 + 4 / 4 = 4 seconds for transfers."""
    network = Network(np.array([2.0, 1.0]), np.array([4.0, 9.0]), np.array([0.5, 1]))
    devices = make_fleet(2, rng=_rng(), network=network)
    scheduler = Rounds(1, deadline=seconds) if name == "deadline" else Immediate(1)
    arguments = {"time_out": seconds} if name == "time_out" else {}
    with pytest.raises(ValueError) as error:
        simulate(devices, 5, scheduler=scheduler, num_bytes=4, rng=_rng(), **arguments)
    assert str(error.value) == (
        f"{name} must be > 4 seconds, as long as the fastest client needs to get and "
        f"send the model, got {seconds}"
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(11), "weights must have shape (12,), got (11,)"),
        (np.ones((12, 1)), "weights must have shape (12,), got (12, 1)"),
        (
            np.zeros(12),
            "weights must be finite and >= 0, one of them > 0, "
            "got values in [0.0, 0.0]",
        ),
        (
            np.arange(-1.0, 11),
            "weights must be finite and >= 0, one of them > 0, "
            "got values in [-1.0, 10.0]",
        ),
        (
            np.append(np.ones(11), np.inf),
            "weights must be finite and >= 0, one of them > 0, "
            "got values in [1.0, inf]",
        ),
        (
            np.append(np.ones(11), np.nan),
            "weights must be finite and >= 0, one of them > 0, "
            "got values in [nan, nan]",
        ),
    ],
)
def test_weight_errors(weights, message):
    with pytest.raises(ValueError) as error:
        _simulate(Immediate(1), weights=weights)
    assert str(error.value) == message


@pytest.mark.parametrize("scheduler", [Immediate(5), Periodic(0.1, 5), Rounds(5)])
def test_clients_of_no_weight_do_not_count(scheduler):
    weights = np.append(np.zeros(7), np.ones(5))
    trace = _simulate(scheduler, weights=weights)
    assert set(trace.client.tolist()) == set(range(7, 12))
    field = "num_triggered" if isinstance(scheduler, Periodic) else scheduler._fields[0]
    one_more = scheduler._replace(**{field: 6})
    with pytest.raises(ValueError, match=r" must be in 1\.\.5 \(the number of client"):
        _simulate(one_more, weights=weights)


@pytest.mark.parametrize("max_tasks", [0, -1])
def test_a_client_gets_a_task_at_least(max_tasks):
    with pytest.raises(ValueError) as error:
        _simulate(Immediate(1), max_tasks=max_tasks)
    assert str(error.value) == f"max_tasks must be >= 1, got {max_tasks}"


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (TimeBudget(0.0, 1, 2), "seconds must be finite and > 0, got 0.0"),
        (TimeBudget(np.inf, 1, 2), "seconds must be finite and > 0, got inf"),
        (TimeBudget(np.nan, 1, 2), "seconds must be finite and > 0, got nan"),
        (TimeBudget(1.0, 0, 2), "num_steps must be 1 <= H_min <= H_max, got (0, 2)"),
        (TimeBudget(1.0, 3, 2), "num_steps must be 1 <= H_min <= H_max, got (3, 2)"),
    ],
)
def test_time_budget_errors(budget, message):
    with pytest.raises(ValueError) as error:
        _simulate(Immediate(1), num_steps=budget)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("seconds", "pace", "steps"),
    [(0.6, 0.2, 3), (0.3, 0.1, 3), (2.1, 0.7, 3), (0.59, 0.2, 2), (1.0, 0.26, 3)],
)
def test_a_time_budget_that_divides_evenly_holds_all_steps(seconds, pace, steps):
    trace = simulate(
        _constant_fleet(pace),
        3,
        scheduler=Immediate(1),
        num_steps=TimeBudget(seconds, 1, 9),
        rng=_rng(),
    )
    assert trace.num_steps.tolist() == [steps] * 3


def test_sampled_staleness_has_no_time_to_budget():
    with pytest.raises(ValueError) as error:
        _sample(num_steps=TimeBudget(5.0, 1, 3))
    assert str(error.value) == (
        "num_steps must be numbers where staleness is sampled and nothing takes time, "
        "got TimeBudget(seconds=5.0, low=1, high=3)"
    )


@pytest.mark.parametrize("make", [_sample, lambda **kw: _simulate(Rounds(2), **kw)])
@pytest.mark.parametrize(
    ("num_steps", "message"),
    [
        (0, "num_steps must be >= 1, got 0"),
        (np.arange(_NUM_CLIENTS), "num_steps must be >= 1, got 0"),
        ((0, 3), "num_steps must be 1 <= H_min <= H_max, got (0, 3)"),
        ((4, 3), "num_steps must be 1 <= H_min <= H_max, got (4, 3)"),
        (
            np.ones(5, int),
            "num_steps must be int, (H_min, H_max) or int [12], one number per "
            "client, got shape (5,)",
        ),
    ],
)
def test_step_errors(make, num_steps, message):
    with pytest.raises(ValueError) as error:
        make(num_steps=num_steps)
    assert str(error.value) == message


@pytest.mark.parametrize("field", ["num_clients", "num_updates", "max_staleness"])
def test_sampled_staleness_errors(field):
    arguments = {"num_clients": 3, "num_updates": 5, "max_staleness": 4} | {field: 0}
    with pytest.raises(ValueError) as error:
        sampled_staleness(**arguments, rng=_rng())
    assert str(error.value) == f"{field} must be >= 1, got 0"


def test_simulate_needs_an_update():
    with pytest.raises(ValueError, match=r"^num_updates must be >= 1, got 0$"):
        _simulate(Immediate(1), 0)


def test_traces_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _sample().num_slots = 3  # pyright: ignore[reportAttributeAccessIssue]
