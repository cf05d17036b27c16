"""What must hold of every schedule, whatever made it.

Shapes: T arrivals, L lost tasks, n = T + L triggered tasks.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fedasync_jax.fleet.devices import LOSE, Fleet
from fedasync_jax.schedule.trace import LEFT, Trace


class _Tasks(NamedTuple):
    """All triggered tasks, arrays [n]; ``reason`` is -1 for those that arrived."""

    client: np.ndarray
    task: np.ndarray
    start_version: np.ndarray
    start_time: np.ndarray
    end_time: np.ndarray
    reason: np.ndarray


def find_violations(trace: Trace, fleet: Fleet | None = None) -> list[str]:
    """Return what is wrong with a schedule, a line each; none if all is well.

    * Time never runs backwards: neither from arrival to arrival nor in a task's life.
    * Every triggered task ends once, as arrived or lost.
    * A client is never in two tasks.
    * A worker receives the version that is the newest when it is triggered, so that
      staleness is >= 0 and counts the versions made since.
    * No task starts while its device is away; one that arrived, where tasks of devices
      that leave are lost, ended before its device left; one that was lost for that
      reason ended at that moment.

    >>> import dataclasses
    >>> from fedasync_jax.schedule.simulation import sampled_staleness
    >>> rng = np.random.default_rng(0)
    >>> trace = sampled_staleness(5, 3, max_staleness=2, rng=rng)
    >>> find_violations(trace)
    []
    >>> wrong = dataclasses.replace(trace, arrival_time=np.array([1.0, 3, 2]))
    >>> find_violations(wrong)[0]
    'time: arrival 2 comes before arrival 1'

    Args:
      trace: the schedule.
      fleet: its devices; None of sampled staleness, where clients and versions are
        drawn and nothing takes time: then only the rest is checked.
    """
    tasks = _join(trace)
    checks = [_check_times(trace), _check_ends(tasks), _check_versions(trace, tasks)]
    if fleet is not None:
        checks += [
            _check_order(tasks),
            _check_clients(tasks),
            _check_presence(tasks, fleet),
        ]
    return [line for lines in checks for line in lines]


def _join(trace: Trace) -> _Tasks:
    """Return arrivals and lost tasks together."""
    lost = trace.lost
    same = ("client", "task", "start_version", "start_time")
    pairs = {name: (getattr(trace, name), getattr(lost, name)) for name in same}
    pairs["end_time"] = (trace.arrival_time, lost.end_time)
    pairs["reason"] = (np.full(trace.num_updates, -1), lost.reason)
    return _Tasks(**{name: np.concatenate(pair) for name, pair in pairs.items()})


def _check_times(trace: Trace) -> Iterator[str]:
    falls = np.flatnonzero(np.diff(trace.arrival_time) < 0)
    if len(falls):
        yield f"time: arrival {falls[0] + 1} comes before arrival {falls[0]}"
    life = [trace.start_time, trace.work_start_time, trace.work_end_time]
    life = np.diff([*life, trace.arrival_time], axis=0)
    backwards = np.flatnonzero((life < 0).any(axis=0))
    if len(backwards):
        yield f"time: it runs backwards in the task of arrival {backwards[0]}"
    never = np.flatnonzero(trace.lost.end_time < trace.lost.start_time)
    if len(never):
        yield f"time: task {trace.lost.task[never[0]]} is lost before it starts"


def _check_ends(tasks: _Tasks) -> Iterator[str]:
    ends = np.bincount(tasks.task)
    wrong = np.flatnonzero(ends != 1)
    if len(wrong):
        yield f"ends: task {wrong[0]} ends {ends[wrong[0]]} times"


def _check_versions(trace: Trace, tasks: _Tasks) -> Iterator[str]:
    if (trace.staleness < 0).any():
        yield f"staleness: it is negative at arrival {np.argmin(trace.staleness)}"
    # Of arrivals at the very moment of the trigger, some come before it, some after.
    fewest = np.searchsorted(trace.arrival_time, tasks.start_time, side="left")
    most = np.searchsorted(trace.arrival_time, tasks.start_time, side="right")
    wrong = (tasks.start_version < fewest) | (tasks.start_version > most)
    if wrong.any():
        i = int(np.argmax(wrong))
        yield (
            f"staleness: task {tasks.task[i]} starts from version "
            f"{tasks.start_version[i]}, the newest is in {fewest[i]}..{most[i]}"
        )


def _check_order(tasks: _Tasks) -> Iterator[str]:
    older = np.diff(tasks.start_version[np.argsort(tasks.task)]) < 0
    if older.any():
        later = int(np.argmax(older)) + 1
        yield f"staleness: task {later} starts from an older version than {later - 1}"


def _check_clients(tasks: _Tasks) -> Iterator[str]:
    order = np.lexsort((tasks.task, tasks.client))
    same = np.diff(tasks.client[order]) == 0
    overlaps = same & (tasks.start_time[order][1:] < tasks.end_time[order][:-1])
    if overlaps.any():
        i = int(np.argmax(overlaps))
        first, second = tasks.task[order[i]], tasks.task[order[i + 1]]
        client = tasks.client[order[i]]
        yield f"clients: client {client} is in tasks {first} and {second} at once"


def _check_presence(tasks: _Tasks, fleet: Fleet) -> Iterator[str]:
    there, until = fleet.availability(tasks.client, tasks.start_time)
    if not there.all():
        yield f"presence: task {tasks.task[~there][0]} starts while its device is away"
    if fleet.when_away != LOSE:
        return
    stayed = (tasks.reason < LEFT) & (tasks.end_time > until)
    if stayed.any():
        yield f"presence: task {tasks.task[stayed][0]} arrives after its device left"
    left = (tasks.reason == LEFT) & (tasks.end_time != until)
    if left.any():
        yield f"presence: task {tasks.task[left][0]} is lost, but its device stays"
