"""The virtual clock: tasks in flight, what becomes of them, and what arrives.

A task's life: triggered, downloading, Working, uploading, arrived; or lost on the way.
All of it is known when the task is triggered, so it is one entry of the event queue.

Shapes: T updates, C clients.
"""

import heapq
import itertools
import math
from array import array
from typing import NamedTuple

import numpy as np

from fedasync_jax.fleet.availability import next_available
from fedasync_jax.fleet.devices import LOSE, Fleet
from fedasync_jax.schedule.idle_clients import IdleClients
from fedasync_jax.schedule.local_steps import Steps, step_stream, stream
from fedasync_jax.schedule.permuted_clients import PermutedClients
from fedasync_jax.schedule.trace import (
    FAILED,
    LATE,
    LEFT,
    TIMED_OUT,
    UNFINISHED,
    LostTasks,
    Trace,
    make_lost_tasks,
    make_trace,
)

ARRIVES = -1  # in place of the reason of a loss
_MOST_LOST = 10_000  # tasks in a row; then nothing will ever arrive
_MOST_RETURNS = 1_000  # of a device to one task; then it will never end


class Event(NamedTuple):
    """The end of a task.

    Events are handled in the order (time, sequence): ties first in, first out.
    """

    time: float
    sequence: int
    client: int
    start_version: int
    start_time: float
    task: int
    num_steps: int
    work_start_time: float
    work_end_time: float
    reason: int


class Clock:
    """Workers, tasks in flight and the record of arrivals.

    Attributes:
      idle: the clients without a task.
      queue: heap of events, as plain tuples, which are faster.
      num_arrivals: models that the Updater has got, which is the newest version.
      ended: why the run is over before its end; empty if it is not.
    """

    def __init__(
        self,
        fleet: Fleet,
        num_steps: Steps,
        *,
        num_bytes: int,
        weights: np.ndarray | None,
        max_tasks: int | None,
        time_out: float,
        in_permutations: bool,
        rng: np.random.Generator,
    ):
        """Set the clock to zero, all clients idle; see ``schedule.simulate``."""
        of_client, of_factor, of_steps, of_failure = rng.spawn(4)
        num_clients, there = fleet.num_clients, fleet.availability
        if in_permutations:
            self.idle = PermutedClients(
                num_clients, there, max_tasks=max_tasks, rng=of_client
            )
        else:
            self.idle = IdleClients(
                num_clients, there, weights=weights, max_tasks=max_tasks, rng=of_client
            )
        self.queue: list[tuple] = []
        self.num_arrivals = 0
        self.ended = ""
        self._fleet = fleet
        self._pace = array("d", fleet.seconds_per_step.tobytes())
        self._download, self._upload = (
            array("d", seconds.tobytes())
            for seconds in fleet.transfer_seconds(num_bytes)
        )
        self._time_out = time_out
        self._factors = stream(fleet.task_law, of_factor)
        self._failures = stream(lambda rng, size: rng.random(size), of_failure)
        self._draw_steps = step_stream(num_steps, fleet.num_clients, of_steps)
        self._sequence = itertools.count()
        self._tasks = itertools.count()
        self._arrivals: list[tuple] = []
        self._lost: list[tuple] = []
        self._lost_in_a_row = 0

    def trigger(self, now: float, most: int) -> int:
        """Send the newest version to idle workers that are there.

        Args:
          now: the time.
          most: how many workers.

        Returns:
          How many there were.
        """
        for count in range(most):
            drawn = self.idle.pop(now)
            if drawn is None:
                return count
            client, until = drawn
            pace = self._pace[client] * next(self._factors)
            steps = self._draw_steps(client, pace)
            work_start = now + self._download[client]
            work_end = work_start + pace * steps
            end = work_end + self._upload[client]
            reason = ARRIVES
            if end > until:
                times = (work_start, work_end, end)
                work_start, work_end, end, reason = self._leave(
                    client, now, until, times
                )
            rate = self._fleet.failure_rate
            if rate:
                drawn_share = next(self._failures) / rate  # uniform if below 1
                if drawn_share < 1:
                    end, reason = now + (end - now) * drawn_share, FAILED
            if end - now > self._time_out:
                end, reason = now + self._time_out, TIMED_OUT
            event = (
                end,
                next(self._sequence),
                client,
                self.num_arrivals,
                now,
                next(self._tasks),
                steps,
                work_start,
                work_end,
                reason,
            )
            heapq.heappush(self.queue, event)
        return most

    @property
    def next_time(self) -> float:
        """When the next task ends; inf if none is in flight."""
        return self.queue[0][0] if self.queue else math.inf

    def is_over(self, num_updates: int) -> bool:
        """Return whether all models have arrived and the next event is one more."""
        enough = self.num_arrivals >= num_updates
        return enough and bool(self.queue) and self.queue[0][-1] == ARRIVES

    def end_next(self) -> tuple[float, bool]:
        """Go on to the end of the next task; return the time and whether it arrived."""
        event = heapq.heappop(self.queue)
        return event[0], self._end(event)

    def _end(self, event: tuple) -> bool:
        """Hand a model that came back to the Updater; return whether one did."""
        self.idle.add(event[2])
        if event[-1] == ARRIVES:
            self._arrivals.append(event)
            self.num_arrivals += 1
            self._lost_in_a_row = 0
            return True
        self._lost.append(event)
        self._lost_in_a_row += 1
        if self._lost_in_a_row == _MOST_LOST:
            self.ended = f"the last {_MOST_LOST:,} tasks were all lost"
        return False

    def drop_tasks(self, now: float) -> None:
        """End all tasks in flight: their models come too late."""
        for event in sorted(self.queue):
            self._end((now, *event[1:-1], LATE))
        self.queue.clear()

    def wait(self, now: float) -> float:
        """Return when somebody is there again, who is not on a task; inf: never."""
        back = self.idle.next_return
        if back == math.inf and not self.queue:
            self.ended = f"nobody is available after {now:.6g} s"
        return back

    def trace(self, num_updates: int) -> Trace:
        """Return the record of the first ``num_updates`` arrivals as a trace.

        Raises:
          ValueError: if nothing has arrived.
        """
        if not self._arrivals:
            raise ValueError(
                f"fleet must bring back a model, but none ever arrives: {self.ended}"
            )
        columns = _columns(self._arrivals)
        arrived = self.num_arrivals
        last_reader = np.full(arrived + 1, -1)
        last_reader[columns["start_version"].astype(int)] = np.arange(arrived)
        still_read = [event[3] for event in self.queue if event[-1] == ARRIVES]
        last_reader[np.array(still_read, int)] = arrived
        in_flight = sorted(self.queue)
        lost = _columns(self._lost + [(*e[:-1], UNFINISHED) for e in in_flight])
        lost["end_time"] = lost.pop("time")
        return make_trace(
            arrival_time=columns.pop("time"),
            last_reader=last_reader,
            lost=make_lost_tasks(**{k: lost[k] for k in LostTasks._fields}),
            ended=self.ended if arrived < num_updates else "",
            **{k: v for k, v in columns.items() if k not in ("sequence", "reason")},
        )

    def _leave(
        self, client: int, now: float, until: float, times: tuple[float, float, float]
    ) -> tuple[float, float, float, int]:
        """Return times and reason of a task whose device leaves before its end.

        Args:
          client: whose.
          now: when the task begins.
          until: when the device leaves.
          times: when training begins, when it ends, when the upload ends, if the device
            stayed.
        """
        if self._fleet.when_away == LOSE:
            return times[0], times[1], until, LEFT
        shift, left, moved = 0.0, until, []
        returns = itertools.count()
        for time in times:
            while time + shift > left:
                back, leaves = self._return(client, left)
                if back == math.inf or next(returns) == _MOST_RETURNS:
                    return times[0], times[1], left, LEFT
                shift += back - left
                left = leaves
            moved.append(time + shift)
        return moved[0], moved[1], moved[2], ARRIVES

    def _return(self, client: int, left: float) -> tuple[float, float]:
        """Return when a client that left is back, and when it leaves again."""
        one = np.array([client])
        back = next_available(self._fleet.availability, one, np.array([left]))
        if not np.isfinite(back[0]):
            return math.inf, math.inf
        _, until = self._fleet.availability(one, back)
        return float(back[0]), float(until[0])


def _columns(events: list[tuple]) -> dict[str, np.ndarray]:
    """Return float64 arrays by name; float64 holds every whole number that occurs."""
    values = itertools.chain.from_iterable(events)
    table = np.fromiter(values, float, len(events) * len(Event._fields))
    rows = table.reshape(len(events), len(Event._fields))
    return dict(zip(Event._fields, rows.T, strict=True))
