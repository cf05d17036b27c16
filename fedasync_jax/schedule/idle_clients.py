"""Idle clients: which of them gets the next task, without looking at all of them.

Shapes: C clients.
"""

import math
from array import array
from collections import deque

import numpy as np

from fedasync_jax.fleet.availability import Availability, next_available

_BLOCK = 4096  # random numbers drawn at a time
_SMALL = 128  # clients that are looked at together
_LONGEST = 1024  # how many of the next draws are looked at together
_SLACK = 2.0  # times as long as they are expected to take
_DEEPEST = 16  # how many changes ahead
_FEW = 8  # clients for which asking on does not pay
_HORIZON = 366 * 86400.0  # seconds: if nobody comes until then, nobody ever does


class IdleClients:
    """Clients without a task.

    The next one is drawn from all of them until one is there, so that it has the right
    distribution and a draw costs the same for any number of clients: about one over the
    share of those that are there. Availability is asked about many of the next draws at
    once, since that is what NumPy is fast at. Who is not found in C draws is looked for
    among all, and when nobody is there, it is known until when.
    """

    def __init__(
        self,
        num_clients: int,
        availability: Availability,
        *,
        weights: np.ndarray | None = None,
        max_tasks: int | None = None,
        rng: np.random.Generator,
    ):
        """Make all clients idle.

        Args:
          num_clients: C.
          availability: when each is there.
          weights: float [C], >= 0, in proportion to which they are drawn; None:
            uniformly.
          max_tasks: that a client takes part in at most.
          rng: source of the draws.
        """
        # No idle client is there before this time, save those that came back since.
        self._nobody_before = 0.0
        self._back: dict[int, None] = {}
        self._availability = availability
        self._weights = weights
        self._ends = None if weights is None else np.cumsum(weights)
        self._tasks_left = None if max_tasks is None else [max_tasks] * num_clients
        # Arrays of Python are read one by one four times as fast as NumPy's; NumPy sees
        # the same memory. Of the idle, the first ``_num_idle`` count.
        eligible = np.arange(num_clients)
        if weights is not None:
            eligible = eligible[weights > 0]
        self._idle = array("i", bytes(4 * num_clients))
        self._idle_view = np.frombuffer(self._idle, np.intc)
        self._idle_view[: len(eligible)] = eligible
        self._num_idle = len(eligible)
        self._place = array("i", [-1]) * num_clients  # among the idle; -1: has a task
        self._place_view = np.frombuffer(self._place, np.intc)
        self._place_view[eligible] = np.arange(len(eligible))
        # Until when a client is there (> 0) or away (< 0), and what follows.
        self._known = array("d", bytes(8 * num_clients))
        self._known_view = np.frombuffer(self._known)
        self._ahead: dict[int, deque[float]] = {}
        self._starved_since: float | None = None
        self._is_small = num_clients <= _SMALL
        self._asked_at, self._asked_for = 0.0, 0  # when and at which draw
        self._of_draws, self._of_searches = rng, rng.spawn(1)[0]
        self._block, self._draws = np.zeros(0), []
        self._next = self._num_draws = 0  # in the block, before the block

    def pop(self, now: float) -> tuple[int, float] | None:
        """Draw a client that is there and take it out of the idle ones.

        Returns:
          The client and until when it is there; None if nobody is there.
        """
        if not self._num_idle:
            return None
        if now < self._nobody_before:
            return self._search(np.fromiter(self._back, np.intc), now)
        self._nobody_before = 0.0
        known, place, is_weighted = self._known, self._place, self._ends is not None
        idle, num_idle = self._idle, self._num_idle
        for _ in range(num_idle):
            if self._next == len(self._draws):
                self._draw()
            drawn = self._draws[self._next]
            self._next += 1
            client = drawn if is_weighted else idle[int(drawn * num_idle)]
            until = known[client]
            if -now <= until <= now:
                until = self._look_ahead(client, now)
            if until > now and place[client] >= 0:
                self._remove(client)
                return client, until
        return self._search(self._idle_view[:num_idle], now)

    @property
    def next_return(self) -> float:
        """When an idle client is there next, after a draw that found nobody."""
        return self._nobody_before if self._num_idle else math.inf

    def add(self, client: int) -> None:
        """Take a client back whose task has ended."""
        if self._tasks_left is not None:
            self._tasks_left[client] -= 1
            if not self._tasks_left[client]:
                return
        self._place[client] = self._num_idle
        self._idle[self._num_idle] = client
        self._num_idle += 1
        if self._nobody_before:
            self._back[client] = None

    def _remove(self, client: int) -> None:
        self._num_idle -= 1
        place, last = self._place[client], self._idle[self._num_idle]
        self._idle[place] = last
        self._place[last] = place
        self._place[client] = -1
        self._starved_since = None

    def _draw(self) -> None:
        """Draw the next block: clients if weighted, otherwise numbers in [0, 1)."""
        draws = self._of_draws.random(_BLOCK)
        if self._ends is not None:
            draws = np.searchsorted(self._ends, draws * self._ends[-1], side="right")
            draws = np.minimum(draws, len(self._ends) - 1)
        self._num_draws += self._next
        self._block, self._draws, self._next = draws, draws.tolist(), 0

    def _look_ahead(self, client: int, now: float) -> float:
        """Return until when a client is there or away, by asking if need be."""
        ahead = self._ahead.get(client)
        while ahead:
            self._known[client] = ahead.popleft()
            if not -now <= self._known[client] <= now:
                return self._known[client]
        if self._is_small:
            clients = np.arange(len(self._known))
            places = np.full(len(clients), _LONGEST)
        else:
            clients = np.append(client, self._upcoming())
            places = np.arange(len(clients))
        draw = self._num_draws + self._next
        pace = (now - self._asked_at) / max(draw - self._asked_for, 1)
        self._asked_at, self._asked_for = now, draw
        self._ask(clients, now, now + _SLACK * pace * places)
        return self._known[client]

    def _upcoming(self) -> np.ndarray:
        """Return the clients of the next draws, as things stand now."""
        draws = self._block[self._next : self._next + _LONGEST]
        if self._ends is not None:
            return draws
        return self._idle_view[(draws * self._num_idle).astype(np.intp)]

    def _ask(self, clients: np.ndarray, now: float, needed: np.ndarray) -> None:
        """Note until when each client is there or away, and what follows.

        Args:
          clients: int [n].
          now: the time.
          needed: float64 [n], until when it should be known, if that is not too far.
        """
        times = np.full(len(clients), now)
        there, until = self._availability(clients, times)
        self._known_view[clients] = np.where(there, until, -until)
        self._ahead = {}
        for _ in range(_DEEPEST):
            unknown = until < needed
            clients, times, needed = clients[unknown], until[unknown], needed[unknown]
            if len(clients) < _FEW:
                return
            there, until = self._availability(clients, times)
            changes = np.where(there, until, -until).tolist()
            for client, change in zip(clients.tolist(), changes, strict=True):
                self._ahead.setdefault(client, deque()).append(change)

    def _search(self, among: np.ndarray, now: float) -> tuple[int, float] | None:
        """Draw from all of those that are there, or note when the next one will be."""
        clients = among[self._place_view[among] >= 0]
        until = self._look_at(clients, now)
        there = until > 0
        if now < self._nobody_before or not there.any():
            self._note_returns(clients[~there], -until[~there], now)
            self._back = dict.fromkeys(clients[there].tolist())
        if not there.any():
            return None
        present, until = clients[there], until[there]
        shares = np.ones(len(present))
        if self._weights is not None:
            shares = self._weights[present]
        ends = np.cumsum(shares)
        drawn = self._of_searches.random() * ends[-1]
        chosen = min(int(np.searchsorted(ends, drawn, "right")), len(ends) - 1)
        client = int(present[chosen])
        self._remove(client)
        return client, float(until[chosen])

    def _look_at(self, clients: np.ndarray, now: float) -> np.ndarray:
        """Return until when clients are there (> 0) or away (< 0), float64 [n]."""
        if self._is_small:
            for client in clients.tolist():
                if -now <= self._known[client] <= now:
                    self._look_ahead(client, now)
        else:
            self._ask(clients, now, np.zeros(len(clients)))
        return self._known_view[clients]

    def _note_returns(self, away: np.ndarray, until: np.ndarray, now: float) -> None:
        """Note before when none of the clients that are away is back."""
        if self._starved_since is None:
            self._starved_since = now
        if not self._is_small:
            until = next_available(self._availability, away, now)
        soonest = float(until.min()) if len(until) else math.inf
        if soonest > self._starved_since + _HORIZON:
            soonest = math.inf
        known = self._nobody_before if now < self._nobody_before else math.inf
        self._nobody_before = min(known, soonest)
