"""Schedulers: when a task is triggered, and when a round is over.

Shapes: T updates, C clients.
Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Scheduler).
"""

import math
from typing import NamedTuple

from fedasync_jax.schedule.clock import Clock


class Immediate(NamedTuple):
    """Scheduler: every task that ends is replaced at once by one on an idle worker.

    Where nobody is there, the place stays free until somebody is.

    Attributes:
      concurrency: tasks in flight, in 1..C.
    """

    concurrency: int


class Periodic(NamedTuple):
    """Scheduler: at fixed intervals some idle workers that are there are triggered.

    Attributes:
      interval: simulated seconds between triggers, > 0; the first is at time 0.
      num_triggered: workers per trigger, in 1..C; fewer if fewer are idle.
    """

    interval: float
    num_triggered: int


class Rounds(NamedTuple):
    """Scheduler: synchronous rounds, each waiting for the slowest of its workers.

    A round begins with as many of its workers as are there, one at least. It ends with
    the model of the last, with the ``clients_per_round``-th model, or at its deadline;
    models that are still missing come too late and are lost.

    Attributes:
      clients_per_round: k, models of a round, in 1..C.
      over_selection: share of workers that are triggered besides, >= 0:
        ceil(k (1 + over_selection)) in all, C at most, drawn without replacement.
      deadline: longest duration of a round, simulated seconds, > 0.

    Reference: Bonawitz et al., "Towards Federated Learning at Scale: System Design",
    MLSys 2019, section 2 (over-selection, time limit of the reporting phase).
    """

    clients_per_round: int
    over_selection: float = 0.0
    deadline: float = math.inf


Scheduler = Immediate | Periodic | Rounds


def run_scheduler(
    clock: Clock, scheduler: Scheduler, num_updates: int, num_eligible: int
) -> None:
    """Trigger tasks until ``num_updates`` models have arrived or none will.

    Whatever comes before the next arrival still belongs to the run: tasks that start
    from the last version do so in a longer run as well.

    Args:
      clock: at time zero.
      scheduler: the policy.
      num_updates: T.
      num_eligible: clients that may be drawn.
    """
    match scheduler:
        case Immediate():
            _run_immediate(clock, scheduler, num_updates)
        case Periodic():
            _run_periodic(clock, scheduler, num_updates)
        case Rounds():
            _run_rounds(clock, scheduler, num_updates, num_eligible)


def check_scheduler(scheduler: Scheduler, num_clients: int) -> None:
    """Raise ValueError unless the numbers of a scheduler are in range."""
    match scheduler:
        case Immediate(concurrency):
            name, count = "concurrency", concurrency
        case Periodic(interval, num_triggered):
            name, count = "num_triggered", num_triggered
            if not 0 < interval < math.inf:
                raise ValueError(
                    f"interval must be finite and > 0 seconds, got {interval}"
                )
        case Rounds(clients_per_round, over_selection):
            name, count = "clients_per_round", clients_per_round
            if not 0 <= over_selection < math.inf:
                raise ValueError(
                    f"over_selection must be finite and >= 0, got {over_selection}"
                )
    if not 1 <= count <= num_clients:
        raise ValueError(
            f"{name} must be in 1..{num_clients} (the number of clients), got {count}"
        )


def _run_immediate(clock: Clock, scheduler: Immediate, num_updates: int) -> None:
    now, vacant = 0.0, scheduler.concurrency
    while not clock.ended:
        vacant -= clock.trigger(now, vacant)
        back = clock.wait(now) if vacant else math.inf
        if back < clock.next_time:
            now = back
        elif clock.ended or clock.is_over(num_updates):
            return
        else:
            now, _ = clock.end_next()
            vacant += 1


def _run_periodic(clock: Clock, scheduler: Periodic, num_updates: int) -> None:
    count, interval = 0, scheduler.interval
    while not clock.ended:
        tick = count * interval
        if clock.next_time <= tick:  # arrivals come before a trigger of the same time
            if clock.is_over(num_updates):
                return
            clock.end_next()
            continue
        count += 1
        if not clock.trigger(tick, scheduler.num_triggered):
            soonest = min(clock.wait(tick), clock.next_time)
            if soonest < math.inf:  # triggers until then would find nobody
                count = max(count, math.floor(soonest / interval))


def _run_rounds(
    clock: Clock, scheduler: Rounds, num_updates: int, num_eligible: int
) -> None:
    k, over_selection, deadline = scheduler
    wanted = math.ceil(k * (1 + over_selection) - 1e-9)  # 50 * 1.1 is above 55
    num_triggered = min(wanted, num_eligible)
    now = 0.0
    while not clock.ended:
        in_round = clock.trigger(now, num_triggered)
        if not in_round:
            now = clock.wait(now)
            continue
        ends, missing = now + deadline, min(k, in_round)
        while missing and clock.queue and not clock.ended:
            if clock.next_time > ends:
                now = ends
                break
            if clock.is_over(num_updates):
                return
            now, arrived = clock.end_next()
            missing -= arrived
        clock.drop_tasks(now)
