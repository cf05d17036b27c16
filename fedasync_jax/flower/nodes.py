"""What is known of the nodes, and who of them may be asked next.

A node is *trusted* while its newest task brought a good reply in the time that all are
given. Until some node leaves a task unanswered, everybody is drawn alike. From then on
those that are not trusted, be they new, slow, failing or silent, share a bounded part
of the places in flight, and trusted nodes have the others: silence costs its own part.

A task is given up after ``deadline_factor`` times the seconds that three nodes in four
need, or that its own node needed last, so that a slow node gets more time from its
first late reply on. Bounds hold it between ``min_deadline`` and ``deadline``. Of the
seconds that nodes need, each node says those of its newest task that ended in the time
that all are given: nobody can stretch it by being late.
"""

import collections
import dataclasses
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from fedasync_jax.flower.limits import Limits

_QUANTILE = 0.75  # of the nodes' task times
_NUM_WEIGHTS = 2000  # newest arrivals whose weights are shared out
_PER_NODE = 20  # of them, in the mean, before shares count


@dataclasses.dataclass
class NodeRecord:
    """What is known of a node; what ``_KEPT`` names survives the server.

    Attributes:
      client: its number, from 0 in the order in which nodes were first seen.
      bad: bad replies of its whole life, and silences that count as such.
      answers: good replies of its whole life.
      silences: tasks in a row that it left unanswered.
      forgivable: of ``bad``, those for silence.
      last_seconds: that its newest answered task took; 0 if it never answered.
      usual_seconds: the same of its newest task that ended in everybody's time.
      faults: in a row.
      ready_at: when it may be asked again, seconds.
      in_flight: tasks that it has.
    """

    client: int
    bad: int = 0
    answers: int = 0
    silences: int = 0
    forgivable: int = 0
    last_seconds: float = 0.0
    usual_seconds: float = 0.0
    faults: int = 0
    ready_at: float = 0.0
    in_flight: int = 0

    def note_answer(self, seconds: float) -> None:
        """Note that it answered a task, if late: silence is forgiven."""
        self.last_seconds = seconds
        self.silences = self.faults = 0
        self.bad -= self.forgivable
        self.forgivable = 0


_KEPT = ("bad", "answers", "silences", "forgivable", "last_seconds", "usual_seconds")


class Roster:
    """The nodes of a run, by Flower's number of each.

    Attributes:
      saw_silence: whether any task was left unanswered in this run of the server.
    """

    def __init__(self, limits: Limits):
        """Begin without nodes."""
        self.saw_silence = False
        self._limits = limits
        self._records: dict[int, NodeRecord] = {}
        self._weights: collections.deque[tuple[int, float]] = collections.deque()
        self._shares: collections.Counter[int] = collections.Counter()  # by client
        self._common: float | None = None  # deadline of all, until one answers

    def __getitem__(self, node: int) -> NodeRecord:
        """Return the record of a node, a new one if it was never seen."""
        return self._records.setdefault(node, NodeRecord(len(self._records)))

    @property
    def numbers(self) -> list[int]:
        """Flower's numbers of the nodes, by client."""
        return list(self._records)

    # Who is asked

    def draw(
        self, nodes: Collection[int], now: float, rng: np.random.Generator
    ) -> int | None:
        """Draw one of the nodes that are there and ready; None if none is.

        Of those with the fewest tasks, each with the same probability.
        """
        ready = [node for node in nodes if self._is_ready(node, now)]
        if self.saw_silence and not self._has_unproven_place(nodes):
            ready = [node for node in ready if self.is_trusted(node)]
        ready = self._drop_greedy(ready, nodes)
        if not ready:
            return None
        fewest = min(self[node].in_flight for node in ready)
        idle = sorted(node for node in ready if self[node].in_flight == fewest)
        return idle[int(rng.integers(len(idle)))]

    def is_banned(self, node: int) -> bool:
        """Return whether a node sent too many bad replies."""
        return self[node].bad >= self._limits.max_bad_replies

    def is_trusted(self, node: int) -> bool:
        """Return whether its newest task brought a good reply in everybody's time."""
        record = self._records.get(node)
        return (
            record is not None
            and record.answers > 0
            and record.silences == record.faults == 0
            and record.last_seconds <= self._common_seconds()
            and not self.is_banned(node)
        )

    def _is_ready(self, node: int, now: float) -> bool:
        record = self._records.get(node)
        if record is None:
            return True
        is_free = record.in_flight < self._limits.max_per_node
        return is_free and not self.is_banned(node) and record.ready_at <= now

    def _has_unproven_place(self, nodes: Iterable[int]) -> bool:
        """Return whether nodes that are not trusted may have one more task.

        What the trusted nodes cannot use is theirs, too.
        """
        limits = self._limits
        trusted = sum(self.is_trusted(node) for node in set(nodes))
        unused = limits.max_in_flight - trusted * limits.max_per_node
        taken = sum(
            record.in_flight
            for node, record in self._records.items()
            if record.in_flight and not self.is_trusted(node)
        )
        return taken < max(limits.unproven_places, unused)

    # How long they may take

    def seconds_for(self, node: int) -> float:
        """Return the seconds after which a task of a node is given up."""
        own = self._limits.deadline_factor * self[node].last_seconds
        return min(max(own, self._common_seconds()), self._limits.deadline)

    def _common_seconds(self) -> float:
        if self._common is None:
            limits = self._limits
            records = self._records.values()
            times = [r.usual_seconds for r in records if r.usual_seconds]
            seconds = limits.deadline
            if times:
                high = float(np.quantile(times, _QUANTILE))
                seconds = max(limits.deadline_factor * high, limits.min_deadline)
            self._common = min(seconds, limits.deadline)
        return self._common

    # What is learned of them

    def note_answer(self, node: int, seconds: float) -> None:
        """Note that a node answered a task, good or not, in time or late."""
        record = self[node]
        record.note_answer(seconds)
        if seconds <= self._common_seconds():
            record.usual_seconds = seconds
            self._common = None

    def note_late(self, node: int, seconds: float, now: float) -> None:
        """Note a reply to a task that was given up: the node is not silent but slow."""
        self.note_answer(node, seconds)
        self[node].ready_at = now

    def note_silence(self, node: int, *, others_answer: bool) -> None:
        """Note that a node left a task unanswered.

        Nobody is blamed while nobody answers: that may be the network.
        """
        self.saw_silence = True
        if not others_answer:
            return
        record = self[node]
        record.silences += 1
        if record.silences > self._limits.max_silences:
            record.bad += 1
            record.forgivable += 1

    def note_fault(self, node: int, now: float) -> None:
        """Note a fault: the node is left alone for a while."""
        record = self[node]
        record.faults += 1
        record.ready_at = now + self._limits.pause_after(record.faults)

    def note_weight(self, client: int, weight: float) -> None:
        """Note the weight with which an arrival of a client was mixed."""
        self._weights.append((client, weight))
        self._shares[client] += weight  # pyright: ignore[reportArgumentType]
        if len(self._weights) > _NUM_WEIGHTS:
            oldest, gone = self._weights.popleft()
            self._shares[oldest] -= gone  # pyright: ignore[reportArgumentType]

    def _drop_greedy(self, ready: list[int], nodes: Iterable[int]) -> list[int]:
        """Return the ready nodes without those that had far more than their part."""
        trusted = sum(self.is_trusted(node) for node in set(nodes))
        if trusted <= self._limits.max_share:  # even all of it is not too much
            return ready
        if len(self._weights) < _PER_NODE * trusted:
            return ready
        most = self._limits.max_share / trusted * sum(self._shares.values())
        return [n for n in ready if self._shares[self[n].client] <= most]

    # What a new run of the server needs to know

    def to_json(self) -> list[list[Any]]:
        """Return a row for each node: its number and what is kept of it."""
        return [
            [node, *(getattr(record, name) for name in _KEPT)]
            for node, record in self._records.items()
        ]

    def restore(self, rows: Iterable[Iterable[Any]]) -> None:
        """Take over what ``to_json`` returned, also the shorter rows of before."""
        for node, *values in rows:
            record = self[int(node)]
            for name, value in zip(_KEPT, values, strict=False):
                setattr(record, name, value)
        self._common = None
