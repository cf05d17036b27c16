"""The virtual clock with devices that come and go: lives of tasks, losses, who is next.

Random fleets are thrown at it, and what must hold of every schedule is checked.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax import fleet
from fedasync_jax.fleet import (
    LOSE,
    PAUSE,
    Fleet,
    Network,
    availability,
    make_fleet,
    make_network,
)
from fedasync_jax.fleet.availability import Availability
from fedasync_jax.schedule.idle_clients import IdleClients
from fedasync_jax.schedule.invariants import find_violations
from fedasync_jax.schedule.local_steps import TimeBudget
from fedasync_jax.schedule.schedulers import Immediate, Periodic, Rounds
from fedasync_jax.schedule.simulation import simulate
from fedasync_jax.schedule.trace import (
    FAILED,
    LATE,
    LOSS_REASONS,
    UNFINISHED,
    Trace,
    make_waves,
)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _replay(
    windows: Mapping[int, Sequence[tuple[float, float]]], num_clients: int
) -> Availability:
    rows = [(client, *window) for client, some in windows.items() for window in some]
    client, start, end = map(np.array, zip(*rows, strict=True))
    return availability.replay(client, start, end, num_clients)


def _make(num_clients=1, seconds=1.0, **kwargs) -> Fleet:
    return make_fleet(num_clients, rng=_rng(), seconds_per_step=seconds, **kwargs)


def _run(devices, num_updates=3, scheduler=None, seed=0, **kwargs) -> Trace:
    trace = simulate(
        devices,
        num_updates,
        scheduler=scheduler or Immediate(1),
        rng=_rng(seed),
        **kwargs,
    )
    assert find_violations(trace, devices) == []
    return trace


def _lost(trace: Trace) -> list[tuple]:
    """(client, start time, end time, reason), without those that were under way."""
    lost = trace.lost
    reasons = [LOSS_REASONS[reason] for reason in lost.reason]
    columns = (lost.client.tolist(), lost.start_time.tolist(), lost.end_time.tolist())
    rows = zip(*columns, reasons, strict=True)
    return [row for row in rows if row[-1] != LOSS_REASONS[UNFINISHED]]


# Lives of tasks, by hand


def test_a_model_travels_there_and_back():
    network = Network(np.array([100.0]), np.array([50.0]), np.array([0.5]))
    devices = _make(seconds=2.0, network=network)
    trace = _run(devices, 2, num_steps=3, num_bytes=200)
    assert trace.start_time.tolist() == [0.0, 13.0]
    assert trace.work_start_time.tolist() == [2.5, 15.5]  # 0.5 + 200 / 100
    assert trace.work_end_time.tolist() == [8.5, 21.5]  # 3 steps of 2
    assert trace.arrival_time.tolist() == [13.0, 26.0]  # 0.5 + 200 / 50


def test_every_client_waits_for_its_own_download_before_it_trains():
    """Each has its own network; a limit of the server counts the download as well."""
    downlink, uplink = np.array([10.0, 40.0, 200.0]), np.array([50.0, 25.0, 20.0])
    network = Network(downlink, uplink, np.array([0.0, 1.0, 2.0]))
    devices = _make(3, network=network)
    trace = _run(devices, 30, Immediate(3), num_steps=4, num_bytes=200)
    assert set(trace.client.tolist()) == {0, 1, 2}
    down, up = (np.array([20.0, 6.0, 3.0]), np.array([4.0, 9.0, 12.0]))
    np.testing.assert_allclose(
        trace.work_start_time - trace.start_time, down[trace.client]
    )
    np.testing.assert_allclose(trace.work_end_time - trace.work_start_time, 4.0)
    np.testing.assert_allclose(
        trace.arrival_time - trace.work_end_time, up[trace.client]
    )

    # In time: 19 s at the most. Without its download client 0 would need 8 s.
    limited = _run(devices, 30, Immediate(3), num_steps=4, num_bytes=200, time_out=19.0)
    assert {row[0] for row in _lost(limited)} == {0}
    assert 0 not in limited.client


def test_a_slow_connection_is_slow_both_ways():
    network = make_network(
        3, downlink=10.0, uplink=5.0, latency=1.0, law=fleet.uniform(2, 2), rng=_rng()
    )
    down, up = _make(3, network=network).transfer_seconds(100)
    np.testing.assert_allclose(down, [22.0] * 3)
    np.testing.assert_allclose(up, [42.0] * 3)


def test_a_task_is_lost_when_its_device_leaves():
    devices = _make(
        when_away=LOSE, availability=_replay({0: [(1, 4), (5, 6), (10, 99)]}, 1)
    )
    trace = _run(devices, 3, num_steps=2)
    assert list(zip(trace.start_time, trace.arrival_time, strict=True)) == [
        (1, 3),
        (10, 12),
        (12, 14),
    ]
    assert _lost(trace) == [(0, 3, 4, "left"), (0, 5, 6, "left")]
    assert trace.start_version.tolist() == [0, 1, 2]
    assert trace.ended == ""


def test_a_task_is_paused_until_its_device_is_back():
    devices = _make(
        when_away=PAUSE, availability=_replay({0: [(1, 4), (5, 6), (10, 99)]}, 1)
    )
    network = Network(np.array([1.0]), np.array([1.0]), np.zeros(1))
    trace = _run(devices._replace(network=network), 1, num_steps=3, num_bytes=1)
    # There for 3 (1 to download, 2 of the work), 1 (the rest of it), then the upload.
    assert trace.start_time.tolist() == [1]
    assert trace.work_start_time.tolist() == [2]
    assert trace.work_end_time.tolist() == [6]
    assert trace.arrival_time.tolist() == [11]


def test_a_task_that_ends_just_when_its_device_leaves_arrives():
    for policy in (PAUSE, LOSE):
        devices = _make(when_away=policy, availability=_replay({0: [(0, 2)]}, 1))
        trace = _run(devices, 1, num_steps=2)
        assert trace.arrival_time.tolist() == [2]


def test_a_paused_task_whose_device_never_returns_is_lost():
    devices = _make(
        2, availability=_replay({0: [(0, 3)], 1: [(0, 99)]}, 2), seconds=2.0
    )
    trace = _run(devices, 20, Immediate(2))
    assert (0, 2, 3, "left") in _lost(trace)
    assert set(trace.client[trace.start_time > 2].tolist()) == {1}


def test_a_time_out_frees_the_place():
    devices = Fleet(np.array([1.0, 50.0]), fleet.constant())
    trace = _run(devices, 12, Immediate(2), time_out=5.0)
    assert set(trace.client.tolist()) == {0}
    lost = _lost(trace)
    assert {row[-1] for row in lost} == {"timed out"}
    assert all(end - start == 5 for _, start, end, _ in lost)
    # Replaced at once: its worker is idle again and gets the next version.
    assert [start for _, start, *_ in lost[:2]] == [0, 5]


def test_failures_have_their_rate_and_are_uniform_over_the_life():
    devices = _make(20, failure_rate=0.3)
    trace = _run(devices, 7000, Immediate(10), num_steps=2)
    failed = trace.lost.reason == FAILED
    num_lost = failed.sum()
    assert num_lost / (num_lost + 7000) == pytest.approx(0.3, abs=0.01)
    lives = (trace.lost.end_time - trace.lost.start_time)[failed] / 2
    np.testing.assert_allclose(
        np.quantile(lives, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03
    )
    assert set(trace.lost.reason.tolist()) <= {FAILED, UNFINISHED}


# Rounds


def test_a_round_ends_with_its_kth_model_and_the_rest_comes_late():
    devices = Fleet(np.array([1.0, 2.0, 3.0, 9.0]), fleet.constant())
    trace = _run(devices, 4, Rounds(2, over_selection=1.0))
    assert trace.arrival_time.tolist() == [1, 2, 3, 4]
    assert trace.client.tolist() == [0, 1, 0, 1]
    assert trace.start_version.tolist() == [0, 0, 2, 2]
    assert _lost(trace) == [
        (2, 0, 2, "late"),
        (3, 0, 2, "late"),
        (2, 2, 4, "late"),
        (3, 2, 4, "late"),
    ]


def test_late_tasks_end_in_the_order_in_which_they_would_have_arrived():
    """They become idle in this order, on which the next draws depend."""
    seconds = np.array([1.0, 9, 8, 7, 6, 5, 5, 5, 4, 3, 2])
    devices = Fleet(seconds, fleet.constant())
    trace = _run(devices, 6, Rounds(1, over_selection=10.0))
    lost = trace.lost
    late = lost.reason == LATE
    for number in range(5):
        rows = np.flatnonzero(late & (lost.start_version == number))
        order = np.lexsort((lost.task[rows], seconds[lost.client[rows]]))
        assert len(rows) == 10
        np.testing.assert_array_equal(order, np.arange(10))


def test_a_round_ends_at_its_deadline():
    devices = Fleet(np.array([1.0, 2.0, 9.0]), fleet.constant())
    trace = _run(devices, 4, Rounds(3, deadline=5.0))
    assert trace.arrival_time.tolist() == [1, 2, 6, 7]
    assert trace.start_version.tolist() == [0, 0, 2, 2]
    assert _lost(trace) == [(2, 0, 5, "late"), (2, 5, 10, "late")]


def test_a_round_without_a_model_is_repeated_from_the_same_version():
    windows = {0: [(0, 2), (3, 4), (8, 99)]}
    devices = _make(when_away=LOSE, seconds=2.5, availability=_replay(windows, 1))
    trace = _run(devices, 2, Rounds(1))
    assert trace.start_time.tolist() == [8, 10.5]
    assert trace.start_version.tolist() == [0, 1]
    assert _lost(trace) == [(0, 0, 2, "left"), (0, 3, 4, "left")]


def test_a_round_begins_with_those_who_are_there():
    windows = {0: [(0, 99)], 1: [(0, 99)], 2: [(1.5, 99)], 3: [(50, 99)]}
    trace = _run(_make(4, availability=_replay(windows, 4)), 10, Rounds(3))
    assert trace.start_version.tolist() == [0, 0, 2, 2, 4, 4, 4, 7, 7, 7]


# Who is next


def test_places_stay_free_while_nobody_is_there_and_are_filled_at_once():
    windows = {0: [(0, 99)], 1: [(2.5, 99)], 2: [(2.5, 99)]}
    trace = _run(_make(3, availability=_replay(windows, 3)), 6, Immediate(2))
    assert trace.start_time.tolist() == [0, 1, 2, 2.5, 3, 3.5]
    assert 0 < trace.client[3] < 3


def test_periodic_triggers_those_who_are_there():
    windows = {0: [(0, 99)], 1: [(3, 99)]}
    trace = _run(_make(2, availability=_replay(windows, 2)), 5, Periodic(2.0, 2))
    assert trace.start_time.tolist() == [0, 2, 4, 4, 6]


@pytest.mark.parametrize("scheduler", [Immediate(1), Periodic(1.5, 1), Rounds(1)])
def test_a_run_ends_when_nobody_is_available_for_the_rest_of_time(scheduler):
    devices = _make(2, availability=_replay({0: [(0, 5)], 1: [(1, 6)]}, 2))
    trace = _run(devices, 100, scheduler)
    assert 3 <= trace.num_updates < 10
    assert trace.ended.startswith("nobody is available after ")


def test_a_client_takes_part_as_often_as_it_may():
    trace = _run(_make(5), 100, Immediate(3), max_tasks=4)
    assert np.bincount(trace.client).tolist() == [4] * 5
    assert trace.ended.startswith("nobody is available after ")


@pytest.mark.parametrize("present", [1.0, 0.5])
@pytest.mark.parametrize("num_clients", [4, 300])
def test_clients_are_drawn_by_their_weights(num_clients, present):
    """By the shares among those who are there, whether few or many."""
    weights = _rng(1).uniform(0, 1, num_clients)
    weights[0] = 0.0
    there = _rng(2).random(num_clients) < present
    there[:3] = True
    windows = {c: [(0, 1e9)] for c in np.flatnonzero(there).tolist()}
    devices = _make(num_clients, availability=_replay(windows, num_clients))
    trace = _run(devices, 30_000, weights=weights)
    shares = np.bincount(trace.client, minlength=num_clients) / 30_000
    expected = np.where(there, weights, 0) / weights[there].sum()
    np.testing.assert_allclose(shares, expected, atol=4 * np.sqrt(expected.max() / 3e4))


@pytest.mark.parametrize("weights", [None, np.linspace(1, 2, 1000)])
def test_a_single_client_that_is_there_is_found_among_many(weights):
    devices = _make(1000, availability=_replay({617: [(3, 1e9)]}, 1000))
    trace = _run(devices, 50, Immediate(5), weights=weights)
    assert set(trace.client.tolist()) == {617}
    assert trace.start_time[0] == 3


@pytest.mark.parametrize("num_clients", [50, 3000])
def test_the_draw_is_uniform_over_those_who_are_there_at_that_time(num_clients):
    """Looking ahead must not prefer those who were there when it was looked."""
    rng = _rng(3)
    there = availability.on_off(40.0, 60.0, rng=rng)
    clients = np.arange(num_clients)
    idle = IdleClients(num_clients, there, rng=_rng(4))
    away_before = []
    for now in np.arange(1.0, 4000.0):
        drawn = idle.pop(float(now))
        assert drawn is not None
        client, until = drawn
        is_there, leaves = there(clients[[client]], np.array([now]))
        assert is_there[0] and leaves[0] == until
        before, _ = there(clients[[client]], np.array([now - 0.99]))
        away_before.append(not before[0])
        idle.add(client)
    # P(away a moment ago | there) = 0.6 (1 - exp(-r 0.99)), r = 1/40 + 1/60
    expected = 0.6 * (1 - math.exp(-0.99 * (1 / 40 + 1 / 60)))
    assert np.mean(away_before) == pytest.approx(expected, abs=0.008)


# Steps


def test_a_time_budget_gives_fast_devices_more_steps():
    devices = Fleet(np.array([1.0, 3.0, 50.0]), fleet.constant())
    trace = _run(devices, 30, Immediate(3), num_steps=TimeBudget(10.0, 2, 8))
    steps = dict(zip(trace.client.tolist(), trace.num_steps.tolist(), strict=True))
    assert steps == {0: 8, 1: 3} or steps == {0: 8, 1: 3, 2: 2}
    assert set(trace.lost.num_steps[trace.lost.client == 2].tolist()) <= {2}


# Random fleets

_SHARE = st.floats(0.05, 1.0)
_LAWS = st.one_of(
    st.just(fleet.constant()),
    st.builds(fleet.uniform, st.just(0.5), st.floats(0.5, 4)),
    st.builds(fleet.log_normal, st.floats(0, 1)),
    st.builds(fleet.pareto, st.floats(1.5, 4)),
    st.builds(lambda s, f: fleet.tiers([s], [f]), _SHARE, st.floats(0.1, 20)),
    st.just(fleet.exponential()),
)


@st.composite
def _availabilities(draw, num_clients: int):
    def on_off():
        means = draw(st.tuples(st.floats(20, 90), st.floats(1, 50)))
        return availability.on_off(*means, rng=_rng(draw(st.integers(0, 99))))

    def daily():
        start, length = draw(st.tuples(st.floats(0, 99), st.floats(20, 100)))
        shift = _rng(draw(st.integers(0, 99))).uniform(0, 100, num_clients)
        return availability.daily(start, length, period=100.0, shift=shift)

    def recorded():
        rng = _rng(draw(st.integers(0, 99)))
        edges = np.cumsum(rng.exponential(30.0, (num_clients, 8)), axis=1)
        client = np.repeat(np.arange(num_clients), 4)
        return availability.replay(
            client, edges[:, ::2].ravel(), edges[:, 1::2].ravel(), num_clients
        )

    kind = draw(st.sampled_from(["always", "on-off", "daily", "both", "replay"]))
    match kind:
        case "always":
            return availability.always()
        case "on-off":
            return on_off()
        case "daily":
            return daily()
        case "both":
            return availability.all_of(daily(), on_off())
        case _:
            return recorded()


@st.composite
def _fleets(draw):
    num_clients = draw(st.integers(1, 12) | st.integers(120, 140))
    network = None
    if draw(st.booleans()):
        network = make_network(
            num_clients,
            downlink=draw(st.floats(1, 100) | st.just(math.inf)),
            uplink=draw(st.floats(1, 100)),
            latency=draw(st.floats(0, 2)),
            law=draw(_LAWS),
            rng=_rng(draw(st.integers(0, 99))),
        )
    return make_fleet(
        num_clients,
        rng=_rng(draw(st.integers(0, 99))),
        client_law=draw(_LAWS),
        task_law=draw(_LAWS),
        network=network,
        availability=draw(_availabilities(num_clients)),
        when_away=draw(st.sampled_from([PAUSE, LOSE])),
        failure_rate=draw(st.sampled_from([0.0, 0.2, 0.5])),
    )


@st.composite
def _problems(draw):
    devices = draw(_fleets())
    count = draw(st.integers(1, devices.num_clients))
    scheduler = draw(
        st.sampled_from(
            [
                Immediate(count),
                Periodic(draw(st.floats(0.3, 30)), count),
                Rounds(count),
                Rounds(count, draw(st.floats(0, 2)), draw(st.floats(50, 500))),
            ]
        )
    )
    arguments = {
        "num_steps": draw(st.sampled_from([1, 4, (1, 6), TimeBudget(3.0, 1, 6)])),
        "num_bytes": draw(st.integers(0, 30)),
        "time_out": draw(st.sampled_from([math.inf, 200.0])),
        "max_tasks": draw(st.sampled_from([None, 1, 20])),
    }
    if draw(st.booleans()):
        weights = _rng(draw(st.integers(0, 99))).uniform(0.01, 1, devices.num_clients)
        arguments["weights"] = weights
    return devices, scheduler, arguments


@settings(deadline=None, derandomize=True, max_examples=300)
@given(_problems(), st.integers(1, 40), st.integers(0, 999))
def test_any_fleet_keeps_the_invariants(problem, num_updates, seed):
    devices, scheduler, arguments = problem
    make = lambda count: simulate(  # noqa: E731
        devices, count, scheduler=scheduler, rng=_rng(seed), **arguments
    )
    try:
        trace = make(num_updates)
    except ValueError as error:
        assert "seconds, as long as" in str(error) or "none ever arrives" in str(error)
        return
    assert find_violations(trace, devices) == []
    assert trace.num_updates == num_updates or trace.ended
    assert sum(end - begin for begin, end in make_waves(trace.start_version)) == (
        trace.num_updates
    )
    if not trace.ended:
        _assert_repeats(trace, make(num_updates + 7))


def _assert_repeats(short: Trace, long: Trace):
    """A longer run repeats a shorter one, its stored versions too."""
    for name in ("client", "task", "start_version", "arrival_time", "read_slot"):
        rows = getattr(long, name)[: short.num_updates]
        np.testing.assert_array_equal(getattr(short, name), rows, name)
    stored = [
        np.where(t.write_slot == t.num_slots, -1, t.write_slot) for t in (short, long)
    ]
    kept = stored[0][:-1] if long.ended else stored[0]
    np.testing.assert_array_equal(kept, stored[1][: len(kept)])
