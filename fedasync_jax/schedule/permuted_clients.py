"""Idle clients in permutations: all of them once, before any comes again.

Shapes: C clients.
Reference: the authors' FedAvg on CIFAR-10, github.com/xcgoner/robust_fedavg, branch
fed_async, train_cifar10_mxnet_fedavg_impl.py (``randperm_choice_list``).
"""

import math
from collections import deque

import numpy as np

from fedasync_jax.fleet.availability import Availability, next_available


class PermutedClients:
    """Clients without a task, which have their turns in random permutations of all.

    Where a permutation ends a new one begins, in the middle of a round, too. Who still
    has a task at its turn keeps the turn until it has ended; who is away loses it. It
    has the methods of ``IdleClients``.
    """

    def __init__(
        self,
        num_clients: int,
        availability: Availability,
        *,
        max_tasks: int | None = None,
        rng: np.random.Generator,
    ):
        """Make all clients idle.

        Args:
          num_clients: C.
          availability: when each is there.
          max_tasks: that a client takes part in at most.
          rng: source of the permutations.
        """
        self._availability = availability
        self._rng = rng
        self._is_idle = np.ones(num_clients, bool)
        self._tasks_left = np.full(num_clients, max_tasks or math.inf)
        self._turns: deque[int] = deque()
        self._asked_at = 0.0

    def pop(self, now: float) -> tuple[int, float] | None:
        """Take the next client that is there out of the idle ones.

        Returns:
          The client and until when it is there; None if nobody is there.
        """
        self._asked_at = now
        kept: list[int] = []
        found = None
        num_clients = len(self._is_idle)
        for _ in range(len(self._turns) + num_clients):  # until all have been asked
            if not self._turns:
                self._turns.extend(self._rng.permutation(num_clients).tolist())
            client = self._turns.popleft()
            if self._is_idle[client]:
                found = self._find_there(client, now)
            elif self._tasks_left[client]:
                kept.append(client)
            if found is not None:
                self._is_idle[client] = False
                break
        self._turns.extendleft(reversed(kept))
        return found

    @property
    def next_return(self) -> float:
        """When an idle client is there next, after a ``pop`` that found nobody."""
        idle = np.flatnonzero(self._is_idle)
        times = next_available(self._availability, idle, self._asked_at)
        return float(times.min(initial=math.inf))

    def add(self, client: int) -> None:
        """Take a client back whose task has ended."""
        self._tasks_left[client] -= 1
        self._is_idle[client] = self._tasks_left[client] > 0

    def _find_there(self, client: int, now: float) -> tuple[int, float] | None:
        there, until = self._availability(np.array([client]), np.array([now]))
        return (client, float(until[0])) if there[0] else None
