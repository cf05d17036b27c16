"""Timelines: what a client did, by hand; stretches that never overlap."""

import itertools

import numpy as np
import pytest

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
from fedasync_jax.schedule.schedulers import Immediate, Periodic, Rounds
from fedasync_jax.schedule.simulation import simulate
from fedasync_jax.schedule.timeline import ACTIVITIES, Timeline, make_timeline
from fedasync_jax.schedule.trace import UNFINISHED, Trace


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _replay(*windows: tuple[int, float, float], num_clients: int = 1):
    client, start, end = map(np.array, zip(*windows, strict=True))
    return availability.replay(client, start, end, num_clients)


def _rows(timeline: Timeline) -> list[tuple]:
    """(client, start, end, activity) by client and time."""
    activity = [ACTIVITIES[a] for a in timeline.activity]
    columns = (c.tolist() for c in (timeline.client, timeline.start, timeline.end))
    return sorted(zip(*columns, activity, strict=True))


def _run(devices: Fleet, num_updates: int, **kwargs) -> Trace:
    kwargs.setdefault("scheduler", Immediate(1))
    return simulate(devices, num_updates, rng=_rng(), **kwargs)


# By hand


def test_a_task_over_a_network():
    network = Network(np.array([100.0]), np.array([50.0]), np.array([0.5]))
    devices = Fleet(np.array([2.0]), fleet.constant(), network)
    trace = _run(devices, 2, num_steps=3, num_bytes=200)
    assert _rows(make_timeline(trace, devices, [0])) == [
        (0, 0.0, 2.5, "download"),
        (0, 2.5, 8.5, "work"),
        (0, 8.5, 13.0, "upload"),
        (0, 13.0, 15.5, "download"),
        (0, 15.5, 21.5, "work"),
        (0, 21.5, 26.0, "upload"),
    ]


def test_without_a_network_there_are_no_transfers():
    devices = Fleet(np.array([2.0]), fleet.constant())
    assert _rows(make_timeline(_run(devices, 2), devices, [0])) == [
        (0, 0.0, 2.0, "work"),
        (0, 2.0, 4.0, "work"),
    ]


def test_a_paused_task_is_away_for_that_time():
    devices = make_fleet(
        1,
        rng=_rng(),
        network=Network(np.ones(1), np.ones(1), np.zeros(1)),
        availability=_replay((0, 1, 4), (0, 5, 6), (0, 10, 99)),
        when_away=PAUSE,
    )
    trace = _run(devices, 1, num_steps=3, num_bytes=1)
    assert _rows(make_timeline(trace, devices, [0])) == [
        (0, 0.0, 1.0, "away"),
        (0, 1.0, 2.0, "download"),
        (0, 2.0, 4.0, "work"),
        (0, 4.0, 5.0, "away"),
        (0, 5.0, 6.0, "work"),
        (0, 6.0, 10.0, "away"),
        (0, 10.0, 11.0, "upload"),
    ]


def test_a_lost_task_is_lost_from_its_first_moment():
    devices = make_fleet(
        1,
        rng=_rng(),
        availability=_replay((0, 1, 4), (0, 5, 6), (0, 10, 99)),
        when_away=LOSE,
    )
    trace = _run(devices, 2, num_steps=2)
    assert _rows(make_timeline(trace, devices, [0])) == [
        (0, 0.0, 1.0, "away"),
        (0, 1.0, 3.0, "work"),
        (0, 3.0, 4.0, "lost"),
        (0, 4.0, 5.0, "away"),
        (0, 5.0, 6.0, "lost"),
        (0, 6.0, 10.0, "away"),
        (0, 10.0, 12.0, "work"),
    ]


def test_a_task_that_is_under_way_when_the_run_is_over_is_cut():
    """The slow one would end at 50; the last arrival is at 3."""
    devices = Fleet(np.array([1.0, 50.0]), fleet.constant())
    trace = _run(devices, 3, scheduler=Immediate(2))
    assert _rows(make_timeline(trace, devices, [0, 1])) == [
        (0, 0.0, 1.0, "work"),
        (0, 1.0, 2.0, "work"),
        (0, 2.0, 3.0, "work"),
        (1, 0.0, 3.0, "lost"),
    ]


def test_only_those_who_are_looked_at_and_idle_time_is_left_out():
    devices = Fleet(np.array([1.0, 3.0]), fleet.constant())
    trace = _run(devices, 4, scheduler=Rounds(2))
    assert _rows(make_timeline(trace, devices, [0])) == [
        (0, 0.0, 1.0, "work"),
        (0, 3.0, 4.0, "work"),
    ]
    assert set(make_timeline(trace, devices, [1]).client.tolist()) == {1}


def test_it_stops_where_it_is_told():
    """In the middle of a task, and before the ones that begin later."""
    network = Network(np.ones(1), np.ones(1), np.zeros(1))
    devices = Fleet(np.array([1.0]), fleet.constant(), network)
    trace = _run(devices, 3, num_steps=2, num_bytes=1)
    assert _rows(make_timeline(trace, devices, [0], until=6.5)) == [
        (0, 0.0, 1.0, "download"),
        (0, 1.0, 3.0, "work"),
        (0, 3.0, 4.0, "upload"),
        (0, 4.0, 5.0, "download"),
        (0, 5.0, 6.5, "work"),
    ]


def test_nobody_and_nothing_are_empty_columns_of_the_right_types():
    devices = Fleet(np.ones(3), fleet.constant())
    trace = _run(devices, 1)
    idle = next(c for c in range(3) if c != trace.client[0])
    for clients in ([], [idle]):
        timeline = make_timeline(trace, devices, clients)
        assert [len(column) for column in timeline] == [0] * 4
        assert [str(c.dtype) for c in timeline] == ["int32", *["float64"] * 2, "int8"]


# Random fleets


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("when_away", [PAUSE, LOSE])
@pytest.mark.parametrize("scheduler", [Immediate(5), Periodic(4.0, 2), Rounds(3, 1.0)])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_stretches_never_overlap_and_cover_what_happened(
    scheduler, when_away, seed, share
):
    rng = _rng(seed)
    devices = make_fleet(
        10,
        rng=rng,
        client_law=fleet.log_normal(0.5),
        task_law=fleet.exponential(),
        network=make_network(10, downlink=4.0, uplink=2.0, latency=0.1, rng=rng),
        availability=availability.on_off(30.0, 10.0, rng=rng),
        when_away=when_away,
        failure_rate=0.1,
    )
    trace = simulate(devices, 60, scheduler=scheduler, num_bytes=2, rng=rng)
    until = share * float(trace.arrival_time[-1])
    timeline = make_timeline(trace, devices, range(10), until=until)
    assert (timeline.start >= 0).all()
    assert (timeline.end <= until).all()
    assert (timeline.start < timeline.end).all()
    seen = np.zeros(len(ACTIVITIES))
    for client in range(10):
        rows = [row[1:] for row in _rows(timeline) if row[0] == client]
        for (_, before, _), (start, _, _) in itertools.pairwise(rows):
            assert before <= start
        for moment in rng.uniform(0, until, 100):
            activity = _recount(trace, devices, client, moment)
            inside = [a for start, end, a in rows if start <= moment < end]
            assert inside == ([] if activity is None else [activity])
            seen[0 if activity is None else ACTIVITIES.index(activity)] += 1
    assert (seen > 0).all()  # the example has all of it


def _recount(trace: Trace, devices: Fleet, client: int, moment: float) -> str | None:
    there, _ = devices.availability(np.array([client]), np.array([moment]))
    if not there[0]:
        return "away"
    mine = trace.client == client
    phases = ("start_time", "work_start_time", "work_end_time", "arrival_time")
    lives = np.stack([getattr(trace, name)[mine] for name in phases])
    for life in lives.T:
        if life[0] <= moment < life[-1]:
            return ACTIVITIES[np.searchsorted(life, moment, "right")]
    lost = trace.lost
    mine = lost.client == client
    within = (lost.start_time[mine] <= moment) & (moment < lost.end_time[mine])
    return "lost" if within.any() else None


def test_tasks_that_never_end_in_the_run_are_told_from_idle_time():
    devices = Fleet(np.array([1.0, 50.0]), fleet.constant())
    trace = _run(devices, 3, scheduler=Immediate(2))
    assert trace.lost.reason.tolist() == [UNFINISHED, UNFINISHED]
    assert set(trace.lost.client.tolist()) == {0, 1}
    timeline = make_timeline(trace, devices, [0])
    assert "lost" not in [row[-1] for row in _rows(timeline)]  # it begins at the end
