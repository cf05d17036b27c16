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
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.node_record import KEPT, NodeRecord

_QUANTILE = 0.75  # of the nodes' task times
_NUM_WEIGHTS = 2000  # newest arrivals whose weights are shared out
_PER_NODE = 20  # of them, in the mean, before shares count


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
        self._first: dict[int, int] = {}  # number of a node, when it had another one
        self._weights: collections.deque[tuple[int, float]] = collections.deque()
        self._shares: collections.Counter[int] = collections.Counter()  # by client
        self._common: float | None = None  # deadline of all, until one answers

    def __getitem__(self, node: int) -> NodeRecord:
        """Return the record of a node, a new one if it was never seen."""
        first = self._first.get(node, node)
        return self._records.setdefault(first, NodeRecord(len(self._records)))

    def _find(self, node: int) -> NodeRecord | None:
        return self._records.get(self._first.get(node, node))

    @property
    def numbers(self) -> list[int]:
        """Flower's numbers of the nodes, by client; of each the first that it had."""
        return list(self._records)

    def recognize(self, keys: Mapping[int, str]) -> list[tuple[int, int]]:
        """Take new nodes for those that they were, by their keys.

        A SuperLink that starts anew gives every node a new number. What is known of a
        node, whether it is banned above all, must not end with that.

        Args:
          keys: of the nodes that are there, by Flower's number; "" is no key.

        Returns:
          The nodes that are seen for the first time under this number, with the first
          number of each.
        """
        strange = {n: k for n, k in keys.items() if k and n not in self._first}
        found = []
        owners = {record.key: node for node, record in self._records.items()}
        for node, key in strange.items():
            first = self._first[node] = owners.setdefault(key, node)
            self[node].key = key
            if first != node:
                found.append((node, first))
        return found

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
        ready = self._drop_greedy(self._drop_suspects(ready, nodes, now), nodes)
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
        record = self._find(node)
        return (
            record is not None
            and record.answers > 0
            and record.silences == record.faults == 0
            and record.last_seconds <= self._common_seconds()
            and not self.is_banned(node)
        )

    def _is_ready(self, node: int, now: float) -> bool:
        record = self._find(node)
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

    def _drop_suspects(
        self, ready: list[int], nodes: Iterable[int], now: float
    ) -> list[int]:
        """Return the ready nodes without those that explosions leave behind.

        Nobody knows which of the models before an explosion made it. A node that was
        among them more often than another one that is there is left alone for a while,
        as after so many more faults.
        """
        if not any(record.undone for record in self._records.values()):
            return ready
        least = min((self[n].undone for n in nodes if not self.is_banned(n)), default=0)

        def is_over(record: NodeRecord) -> bool:
            more = record.undone - least
            return not more or self._limits.pause_after(more) <= now - record.undone_at

        return [node for node in ready if is_over(self[node])]

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

    def note_undone(self, nodes: Iterable[int], now: float) -> None:
        """Note the nodes of which models were mixed before an explosion."""
        for node in nodes:
            record = self[node]
            record.undone, record.undone_at = record.undone + 1, now

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
            [node, *(getattr(record, name) for name in KEPT)]
            for node, record in self._records.items()
        ]

    def restore(self, rows: Iterable[Iterable[Any]]) -> None:
        """Take over what ``to_json`` returned, also the shorter rows of before."""
        for node, *values in rows:
            record = self[int(node)]
            for name, value in zip(KEPT, values, strict=False):
                setattr(record, name, value)
        self._common = None
