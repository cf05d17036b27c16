"""Schedulers: when a task is triggered, and when a round is over.

Shapes: T updates, C clients.
Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Scheduler).
"""

import math
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

from fedasync_jax.parts.bounds import above, at_least, check_value, one_of
from fedasync_jax.parts.registry import Registry

if TYPE_CHECKING:  # a scheduler is data: whoever makes one needs no clock
    from fedasync_jax.schedule.clock import Clock

Count = Annotated[int, at_least(1)]
Seconds = Annotated[float, above(0)]
RoundSelection = Annotated[str, one_of(("draws", "permutation"))]
"""How a round gets its clients, see ``Rounds``."""


class Scheduler(Protocol):
    """A policy of triggering tasks, as data with a way to follow it."""

    def check(self, num_clients: int) -> None:
        """Raise ValueError unless the numbers of the policy are in range."""
        ...

    def run(self, clock: "Clock", num_updates: int, num_eligible: int) -> None:
        """Trigger tasks until ``num_updates`` models have arrived or none will.

        Whatever comes before the next arrival still belongs to the run: tasks that
        start from the last version do so in a longer run as well.

        Args:
          clock: at time zero.
          num_updates: T.
          num_eligible: clients that may be drawn.
        """
        ...


class Immediate(NamedTuple):
    """Scheduler: every task that ends is replaced at once by one on an idle worker.

    Where nobody is there, the place stays free until somebody is.

    Attributes:
      concurrency: Tasks in flight, in 1..C.
    """

    concurrency: Count = 10

    def check(self, num_clients: int) -> None:
        """Raise ValueError unless there are as many clients."""
        _check_count("concurrency", self.concurrency, num_clients)

    def run(self, clock: "Clock", num_updates: int, num_eligible: int) -> None:
        """See ``Scheduler``."""
        del num_eligible
        now, vacant = 0.0, self.concurrency
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


class Periodic(NamedTuple):
    """Scheduler: at fixed intervals some idle workers that are there are triggered.

    Attributes:
      interval: Simulated seconds between triggers, > 0; the first is at time 0.
      num_triggered: Idle workers triggered at a time, in 1..C, or all if fewer are
        idle.
    """

    interval: Seconds = 5.0
    num_triggered: Count = 10

    def check(self, num_clients: int) -> None:
        """Raise ValueError unless interval and count are in range."""
        if not 0 < self.interval < math.inf:
            raise ValueError(
                f"interval must be finite and > 0 seconds, got {self.interval}"
            )
        _check_count("num_triggered", self.num_triggered, num_clients)

    def run(self, clock: "Clock", num_updates: int, num_eligible: int) -> None:
        """See ``Scheduler``."""
        del num_eligible
        count = 0
        while not clock.ended:
            tick = count * self.interval
            if clock.next_time <= tick:  # arrivals come before a trigger then
                if clock.is_over(num_updates):
                    return
                clock.end_next()
                continue
            count += 1
            if not clock.trigger(tick, self.num_triggered):
                soonest = min(clock.wait(tick), clock.next_time)
                if soonest < math.inf:  # triggers until then would find nobody
                    count = max(count, math.floor(soonest / self.interval))


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
      selection: "draws": every round draws anew from all clients. "permutation": the
        rounds take their clients, also those triggered besides, one after the other
        from random permutations of all, see ``PermutedClients``.

    Reference: Bonawitz et al., "Towards Federated Learning at Scale: System Design",
    MLSys 2019, section 2 (over-selection, time limit of the reporting phase).
    """

    clients_per_round: int
    over_selection: float = 0.0
    deadline: float = math.inf
    selection: RoundSelection = "draws"

    @property
    def in_permutations(self) -> bool:
        """Whether all clients have a turn before any has another one."""
        return self.selection == "permutation"

    def check(self, num_clients: int) -> None:
        """Raise ValueError unless count, share and selection are in range."""
        check_value("selection", RoundSelection, self.selection)
        if not 0 <= self.over_selection < math.inf:
            raise ValueError(
                f"over_selection must be finite and >= 0, got {self.over_selection}"
            )
        _check_count("clients_per_round", self.clients_per_round, num_clients)

    def run(self, clock: "Clock", num_updates: int, num_eligible: int) -> None:
        """See ``Scheduler``."""
        k = self.clients_per_round
        wanted = math.ceil(k * (1 + self.over_selection) - 1e-9)  # 50 * 1.1 is above 55
        num_triggered = min(wanted, num_eligible)
        now = 0.0
        while not clock.ended:
            in_round = clock.trigger(now, num_triggered)
            if not in_round:
                now = clock.wait(now)
                continue
            ends, missing = now + self.deadline, min(k, in_round)
            while missing and clock.queue and not clock.ended:
                if clock.next_time > ends:
                    now = ends
                    break
                if clock.is_over(num_updates):
                    return
                now, arrived = clock.end_next()
                missing -= arrived
            clock.drop_tasks(now)


class Sampled(NamedTuple):
    """No scheduler, but the paper's experiments: see ``sampled_staleness``.

    Attributes:
      max_staleness: Number of newest versions from which the start is drawn.
    """

    max_staleness: Count = 4

    def check(self, num_clients: int) -> None:
        """Raise nothing: any number of clients will do."""


def _check_count(name: str, count: int, num_clients: int) -> None:
    if not 1 <= count <= num_clients:
        raise ValueError(
            f"{name} must be in 1..{num_clients} (the number of clients), got {count}"
        )


SCHEDULES: Registry[Immediate | Periodic | Sampled] = Registry("schedule")
SCHEDULES.register("immediate", Immediate)
SCHEDULES.register("periodic", Periodic)
SCHEDULES.register("sampled", Sampled)
