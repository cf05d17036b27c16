"""Invariants: a good schedule has nothing to tell of, every wrong one its line."""

import dataclasses

import numpy as np
import pytest

from fedasync_jax import fleet
from fedasync_jax.fleet import LOSE, PAUSE, Fleet, Network, availability, make_fleet
from fedasync_jax.schedule.invariants import find_violations
from fedasync_jax.schedule.schedulers import Immediate, Periodic, Rounds
from fedasync_jax.schedule.simulation import sampled_staleness, simulate
from fedasync_jax.schedule.trace import (
    FAILED,
    LATE,
    LEFT,
    UNFINISHED,
    Trace,
    make_lost_tasks,
    make_trace,
)

_WINDOWS = {0: [(0, 10)], 1: [(0, 4), (6, 99)], 2: [(1, 99)]}


def _there() -> availability.Availability:
    rows = [(client, *window) for client, some in _WINDOWS.items() for window in some]
    return availability.replay(*map(np.array, zip(*rows, strict=True)), num_clients=3)


_LOSE = Fleet(np.ones(3), fleet.constant(), None, _there(), LOSE)
_PAUSE = _LOSE._replace(when_away=PAUSE)


def _good() -> Trace:
    """Two or three tasks in flight; task 1 is lost when its device leaves at 4.

    row   client  task  version  start  end
    0     0       0     0        0      2
    lost  1       1     0        1      4    left
    1     0       2     1        2      5
    2     2       3     1        4      7
    3     1       4     2        6      8
    lost  0       5     2        6      9    failed
    """
    start, end = np.array([0.0, 2, 4, 6]), np.array([2.0, 5, 7, 8])
    return make_trace(
        client=np.array([0, 0, 2, 1]),
        task=np.array([0, 2, 3, 4]),
        start_version=np.array([0, 1, 1, 2]),
        start_time=start,
        work_start_time=start + 0.5,
        work_end_time=end - 0.5,
        arrival_time=end,
        num_steps=np.ones(4),
        last_reader=np.array([0, 2, 3, -1, -1]),
        lost=make_lost_tasks(
            client=np.array([1, 0]),
            task=np.array([1, 5]),
            start_version=np.array([0, 2]),
            num_steps=np.ones(2),
            start_time=np.array([1.0, 6]),
            end_time=np.array([4.0, 9]),
            reason=np.array([LEFT, FAILED]),
        ),
    )


def _change(trace: Trace, **values) -> Trace:
    """Return the trace with some numbers replaced, {row: value} by column.

    A name that begins with ``lost_`` is a column of the lost tasks.
    """
    columns, lost = trace.columns(), trace.lost._asdict()
    for name, rows in values.items():
        table = lost if name.startswith("lost_") else columns
        name = name.removeprefix("lost_")
        table[name] = table[name].copy()
        for row, value in rows.items():
            table[name][row] = value
    return dataclasses.replace(trace, **columns, lost=make_lost_tasks(**lost))


@pytest.mark.parametrize("devices", [None, _LOSE, _PAUSE])
def test_a_good_schedule_has_nothing_to_tell_of(devices):
    assert find_violations(_good(), devices) == []


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"arrival_time": {2: 8.5}},
            "time: arrival 3 comes before arrival 2",
        ),
        (
            {"work_start_time": {2: 3.5}},
            "time: it runs backwards in the task of arrival 2",
        ),
        (
            {"work_end_time": {3: 6.25}},
            "time: it runs backwards in the task of arrival 3",
        ),
        (
            {"work_end_time": {1: 5.5}},
            "time: it runs backwards in the task of arrival 1",
        ),
        (
            {"lost_end_time": {1: 5.5}},
            "time: task 5 is lost before it starts",
        ),
        ({"task": {3: 6}}, "ends: task 4 ends 0 times"),
        ({"lost_task": {1: 6}}, "ends: task 5 ends 0 times"),
        ({"lost_task": {1: 4}}, "ends: task 4 ends 2 times"),
        (
            {"start_version": {1: 0, 2: 0}, "start_time": {1: 2.25}},
            "staleness: task 2 starts from version 0, the newest is in 1..1",
        ),
        (
            {"start_version": {3: 1}, "lost_start_version": {1: 1}},
            "staleness: task 4 starts from version 1, the newest is in 2..2",
        ),
        (
            {"lost_start_version": {1: 3}},
            "staleness: task 5 starts from version 3, the newest is in 2..2",
        ),
        (
            {"start_time": {1: 1.5}, "start_version": {1: 0}},
            "clients: client 0 is in tasks 0 and 2 at once",
        ),
        (
            {"lost_client": {1: 2}},
            "clients: client 2 is in tasks 3 and 5 at once",
        ),
        (
            {"client": {0: 2}, "arrival_time": {0: 1}, "work_end_time": {0: 1}},
            "presence: task 0 starts while its device is away",
        ),
        (
            {"lost_start_time": {0: 0.5}, "lost_client": {0: 2}, "lost_reason": {0: 1}},
            "presence: task 1 starts while its device is away",
        ),
        (
            {"arrival_time": {3: 10.5}, "client": {3: 0}, "lost_client": {1: 1}},
            "presence: task 4 arrives after its device left",
        ),
        (
            {"lost_end_time": {0: 3.5}},
            "presence: task 1 is lost, but its device stays",
        ),
        (
            {"lost_end_time": {0: 4.5}},
            "presence: task 1 is lost, but its device stays",
        ),
        (
            {"lost_reason": {1: LEFT}},
            "presence: task 5 is lost, but its device stays",
        ),
    ],
)
def test_what_is_wrong_is_told_in_its_line_and_no_other(values, line):
    assert find_violations(_change(_good(), **values), _LOSE) == [line]


def test_a_negative_staleness_is_told():
    """At one moment, 5, a task begins, arrives, and is mixed before an older one."""
    trace = make_trace(
        client=np.array([0, 1, 2]),
        task=np.array([0, 2, 1]),
        start_version=np.array([0, 2, 0]),
        start_time=np.array([0.0, 5, 1]),
        arrival_time=np.array([2.0, 5, 5]),
        num_steps=np.ones(3),
        last_reader=np.array([2, -1, 1, -1]),
    )
    assert find_violations(trace) == ["staleness: it is negative at arrival 1"]


def test_an_older_version_than_that_of_the_task_before_is_told():
    """All within the moment 2, when the newest version is 0, 1 or 2."""
    trace = make_trace(
        client=np.array([0, 1, 2, 3]),
        task=np.arange(4),
        start_version=np.array([0, 0, 2, 1]),
        start_time=np.array([0.0, 0, 2, 2]),
        arrival_time=np.array([2.0, 2, 3, 3]),
        num_steps=np.ones(4),
        last_reader=np.array([1, 3, 2, -1, -1]),
    )
    devices = make_fleet(4, rng=np.random.default_rng(0))
    assert find_violations(trace, devices) == [
        "staleness: task 3 starts from an older version than 2"
    ]


def test_several_wrongs_are_told_of_together():
    values = {"lost_end_time": {1: 5.5}, "task": {3: 6}, "client": {0: 2}}
    assert find_violations(_change(_good(), **values), _PAUSE) == [
        "time: task 5 is lost before it starts",
        "ends: task 4 ends 0 times",
        "presence: task 0 starts while its device is away",
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"arrival_time": {3: 10.5}, "client": {3: 0}, "lost_client": {1: 1}},
        {"lost_reason": {1: LEFT}},
        {"lost_end_time": {0: 3.5}},
    ],
)
def test_where_tasks_pause_a_device_may_leave(values):
    assert find_violations(_change(_good(), **values), _PAUSE) == []


def test_a_lost_task_may_outlast_its_device_where_that_is_not_the_reason():
    for reason in (LATE, UNFINISHED):
        values = {"lost_end_time": {1: 10.5}, "lost_reason": {1: reason}}
        assert find_violations(_change(_good(), **values), _LOSE) == []


def test_without_a_fleet_clients_may_be_anywhere_and_several_times():
    assert find_violations(_change(_good(), client={2: 0, 3: 0})) == []


@pytest.mark.parametrize("max_staleness", [1, 2, 4, 16])
@pytest.mark.parametrize("seed", range(3))
def test_sampled_staleness_is_a_good_schedule(max_staleness, seed):
    trace = sampled_staleness(
        5, 300, max_staleness=max_staleness, rng=np.random.default_rng(seed)
    )
    assert find_violations(trace) == []


@pytest.mark.parametrize(
    "scheduler", [Immediate(4), Periodic(1.5, 2), Rounds(3, 0.5, 8.0)]
)
@pytest.mark.parametrize("when_away", [PAUSE, LOSE])
def test_any_number_that_is_changed_in_a_simulated_schedule_is_found(
    scheduler, when_away
):
    rng = np.random.default_rng(0)
    devices = make_fleet(
        8,
        rng=rng,
        task_law=fleet.exponential(),
        network=Network(np.full(8, 9.0), np.full(8, 7.0), np.full(8, 0.1)),
        availability=availability.on_off(30.0, 5.0, rng=rng),
        when_away=when_away,
        failure_rate=0.1,
    )
    trace = simulate(devices, 200, scheduler=scheduler, num_bytes=2, rng=rng)
    assert find_violations(trace, devices) == []
    assert len(trace.lost.task) > 10
    for name in ("task", "start_version", "start_time", "arrival_time"):
        for row in range(5, 200, 20):
            for change in (-40, 40):
                value = getattr(trace, name)[row] + change
                if name == "start_version" or value >= 0:
                    wrong = _change(trace, **{name: {row: value}})
                    assert find_violations(wrong, devices), (name, row, change)
