"""The schedule: who trains when, from which version, and who arrives when.

None of this depends on the values of the models, so the whole schedule of a run is pure
data, a ``Trace``, made on the host before anything is trained. Two kinds of asynchrony
make one: staleness that is sampled, as in the paper's experiments, and staleness that
follows from the events of a virtual clock.

Shapes: T updates, C clients.
Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Scheduler, Coordinator) and section 5 (sampled staleness).
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fedasync_jax.fleet import DelayLaw, Fleet
from fedasync_jax.trace import Trace, make_trace

Steps = int | tuple[int, int] | np.ndarray

_BLOCK = 4096  # random numbers drawn at a time; a longer run repeats a shorter one
_TICK = -1  # in place of a client: the Scheduler's periodic trigger


class Immediate(NamedTuple):
    """Scheduler: every arrival is replaced at once by a task on an idle worker.

    Attributes:
      concurrency: tasks in flight, in 1..C.
    """

    concurrency: int


class Periodic(NamedTuple):
    """Scheduler: at fixed intervals some idle workers are triggered.

    Attributes:
      interval: simulated seconds between triggers, > 0; the first is at time 0.
      num_triggered: workers per trigger, in 1..C; fewer if fewer are idle.
    """

    interval: float
    num_triggered: int


class Rounds(NamedTuple):
    """Scheduler: synchronous rounds, each waiting for the slowest of its workers.

    Attributes:
      clients_per_round: workers drawn for a round without replacement, in 1..C.
    """

    clients_per_round: int


Scheduler = Immediate | Periodic | Rounds


def sampled_staleness(
    num_clients: int,
    num_updates: int,
    *,
    max_staleness: int,
    num_steps: Steps = 1,
    rng: np.random.Generator,
) -> Trace:
    """Make the paper's schedule: client and start version drawn at every update.

    The client is uniform with replacement, the start version uniform over the newest
    ``max_staleness`` versions (fewer while fewer exist), so that d is in
    {0, .., max_staleness - 1}. Time is counted in updates.

    Args:
      num_clients: C >= 1.
      num_updates: T >= 1.
      max_staleness: number of versions to draw from, >= 1.
      num_steps: local steps H: the same for all, (H_min, H_max) to draw from
        uniformly per task, or int [C] per client.
      rng: source of everything drawn.

    Raises:
      ValueError: if a number is out of range.
    """
    _require_positive(num_clients=num_clients, num_updates=num_updates)
    _require_positive(max_staleness=max_staleness)
    of_client, of_version, of_steps = rng.spawn(3)
    update = np.arange(num_updates)
    choices = np.minimum(max_staleness, update + 1)
    client = (of_client.random(num_updates) * num_clients).astype(np.int32)
    start = update - (of_version.random(num_updates) * choices).astype(int)
    draw = _step_stream(num_steps, num_clients, of_steps)
    return make_trace(
        client=client,
        task=update,
        start_version=start,
        start_time=start,
        arrival_time=update + 1,
        num_steps=np.array([draw(i) for i in client.tolist()]),
        last_reader=np.arange(num_updates + 1) + max_staleness - 1,
    )


def simulate(
    fleet: Fleet,
    num_updates: int,
    *,
    scheduler: Scheduler,
    num_steps: Steps = 1,
    rng: np.random.Generator,
) -> Trace:
    """Run the virtual clock until ``num_updates`` models have arrived.

    Events are handled in the order (time, sequence number): ties first in, first out.
    A worker is drawn uniformly from the idle ones, receives the newest version, and is
    idle again once its model has arrived. The cost of an event does not depend on C.

    Args:
      fleet: devices of the clients.
      num_updates: T >= 1.
      scheduler: ``Immediate``, ``Periodic`` or ``Rounds``.
      num_steps: as in ``sampled_staleness``.
      rng: source of everything drawn.

    Raises:
      ValueError: if a number is out of range.
    """
    _require_positive(num_updates=num_updates)
    _check_scheduler(scheduler, fleet.num_clients)
    clock = _Clock(fleet, num_steps, rng)
    match scheduler:
        case Immediate():
            _run_immediate(clock, scheduler, num_updates)
        case Periodic():
            _run_periodic(clock, scheduler, num_updates)
        case Rounds():
            _run_rounds(clock, scheduler, num_updates)
    return clock.trace()


class _Clock:
    """Workers, tasks in flight and the record of arrivals."""

    def __init__(self, fleet: Fleet, num_steps: Steps, rng: np.random.Generator):
        of_client, of_factor, of_steps = rng.spawn(3)
        self.seconds_per_step = fleet.seconds_per_step.tolist()
        self.idle = list(range(fleet.num_clients))
        self.choices = _stream(lambda rng, size: rng.random(size), of_client)
        self.factors = _stream(fleet.task_law, of_factor)
        self.draw_steps = _step_stream(num_steps, fleet.num_clients, of_steps)
        self.queue: list[tuple] = []  # (time, sequence, client, tau, start, task, H)
        self.sequence = itertools.count()
        self.tasks = itertools.count()
        self.arrivals: list[tuple] = []

    def trigger(self, now: float) -> None:
        """Send the newest version to a random idle worker."""
        idle = self.idle
        chosen = int(next(self.choices) * len(idle))
        client, idle[chosen] = idle[chosen], idle[-1]
        idle.pop()
        steps = self.draw_steps(client)
        end = now + self.seconds_per_step[client] * next(self.factors) * steps
        task = (client, len(self.arrivals), now, next(self.tasks), steps)
        heapq.heappush(self.queue, (end, next(self.sequence), *task))

    def arrive(self, event: tuple) -> None:
        """Hand a model that came back to the Updater."""
        self.idle.append(event[2])
        self.arrivals.append(event)

    def trace(self) -> Trace:
        """Return the record as a trace."""
        time, _, client, start_version, start_time, task, steps = map(
            np.array, zip(*self.arrivals, strict=True)
        )
        num_updates = len(client)
        last_reader = np.full(num_updates + 1, -1)
        last_reader[start_version] = np.arange(num_updates)
        waiting = [event[3] for event in self.queue if event[2] != _TICK]
        last_reader[np.array(waiting, int)] = num_updates
        return make_trace(
            client=client,
            task=task,
            start_version=start_version,
            start_time=start_time,
            arrival_time=time,
            num_steps=steps,
            last_reader=last_reader,
        )


def _run_immediate(clock: _Clock, scheduler: Immediate, num_updates: int) -> None:
    for _ in range(scheduler.concurrency):
        clock.trigger(0.0)
    while len(clock.arrivals) < num_updates:
        event = heapq.heappop(clock.queue)
        clock.arrive(event)
        clock.trigger(event[0])


def _run_periodic(clock: _Clock, scheduler: Periodic, num_updates: int) -> None:
    ticks = itertools.count()
    heapq.heappush(clock.queue, (0.0, next(clock.sequence), _TICK))
    # Triggers before the next arrival still belong to the run: they read the last
    # version, as they do in a longer run.
    while len(clock.arrivals) < num_updates or clock.queue[0][2] == _TICK:
        event = heapq.heappop(clock.queue)
        if event[2] != _TICK:
            clock.arrive(event)
            continue
        for _ in range(min(scheduler.num_triggered, len(clock.idle))):
            clock.trigger(event[0])
        tick = (next(ticks) + 1) * scheduler.interval
        heapq.heappush(clock.queue, (tick, next(clock.sequence), _TICK))


def _run_rounds(clock: _Clock, scheduler: Rounds, num_updates: int) -> None:
    for _ in range(scheduler.clients_per_round):
        clock.trigger(0.0)
    while len(clock.arrivals) < num_updates:
        event = heapq.heappop(clock.queue)
        clock.arrive(event)
        if not clock.queue:  # the slowest of the round is back
            for _ in range(scheduler.clients_per_round):
                clock.trigger(event[0])


def _stream(law: DelayLaw, rng: np.random.Generator) -> Iterator[float]:
    blocks = (law(rng, _BLOCK).tolist() for _ in itertools.count())
    return itertools.chain.from_iterable(blocks)


def _step_stream(
    num_steps: Steps, num_clients: int, rng: np.random.Generator
) -> Callable[[int], int]:
    """Return ``draw(client) -> H``."""
    if isinstance(num_steps, tuple):
        low, high = num_steps
        if not 1 <= low <= high:
            raise ValueError(
                f"num_steps must be 1 <= H_min <= H_max, got ({low}, {high})"
            )
        stream = _stream(lambda rng, size: rng.integers(low, high + 1, size), rng)
        return lambda client: int(next(stream))
    if np.shape(num_steps) not in ((), (num_clients,)):
        raise ValueError(
            f"num_steps must be int, (H_min, H_max) or int [{num_clients}], one number "
            f"per client, got shape {np.shape(num_steps)}"
        )
    per_client = np.broadcast_to(num_steps, num_clients)
    _require_positive(num_steps=int(per_client.min()))
    return per_client.tolist().__getitem__


def _check_scheduler(scheduler: Scheduler, num_clients: int) -> None:
    match scheduler:
        case Immediate(concurrency):
            name, count = "concurrency", concurrency
        case Periodic(interval, num_triggered):
            name, count = "num_triggered", num_triggered
            if not 0 < interval < math.inf:
                raise ValueError(
                    f"interval must be finite and > 0 seconds, got {interval}"
                )
        case Rounds(clients_per_round):
            name, count = "clients_per_round", clients_per_round
    if not 1 <= count <= num_clients:
        raise ValueError(
            f"{name} must be in 1..{num_clients} (the number of clients), got {count}"
        )


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
