"""The Coordinator's books: which node has which task of which version until when.

No network, no threads, no clock: time is an argument, in seconds of any clock that
never goes back. Every task is answered once; whatever else comes is counted by its
cause and never reaches the Updater.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Scheduler, Coordinator).
"""

import collections
import dataclasses
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from fedasync_jax.flower.limits import Limits
from fedasync_jax.schedule.trace import FAILED, LATE, LEFT, TIMED_OUT, UNFINISHED

# Why a task was lost though nobody sent anything bad, and its place in LOSS_REASONS.
FAULTS = {
    "not sent": LEFT,
    "node left": LEFT,
    "client error": FAILED,
    "client crashed": FAILED,
    "reply unavailable": FAILED,
    "expired": TIMED_OUT,
    "deadline": TIMED_OUT,
}
TOO_STALE, UNFINISHED_TASK = "too stale", "unfinished"
_REASONS = {**FAULTS, TOO_STALE: LATE, UNFINISHED_TASK: UNFINISHED}


class Task(NamedTuple):
    """One triggered training.

    Attributes:
      number: in the order of the triggers; the task's random key is made from it.
      node: Flower's number of the node.
      client: ours, from 0 in the order in which nodes were first seen.
      version: tau, of the model that is sent.
      start_time: seconds.
      deadline: seconds; given up from then on.
    """

    number: int
    node: int
    client: int
    version: int
    start_time: float
    deadline: float


class LostTask(NamedTuple):
    """A task whose model was not mixed.

    Attributes:
      task: the task.
      end_time: when it was lost, seconds.
      cause: one of ``FAULTS``, "too stale", "unfinished" or what was bad of its reply.
    """

    task: Task
    end_time: float
    cause: str

    @property
    def reason(self) -> int:
        """Place in ``trace.LOSS_REASONS``."""
        return _REASONS.get(self.cause, FAILED)

    @property
    def is_bad(self) -> bool:
        """Whether its reply came and was bad."""
        return self.cause not in _REASONS


@dataclasses.dataclass
class _Node:
    """What is known of a node.

    Attributes:
      client: its number.
      in_flight: tasks that it has.
      faults: in a row.
      ready_at: when it may be asked again, seconds.
      bad: bad replies of its whole life.
    """

    client: int
    in_flight: int = 0
    faults: int = 0
    ready_at: float = 0.0
    bad: int = 0


class Coordinator:
    """Gives out tasks and takes their answers, within limits.

    Attributes:
      counts: how often each cause occurred.
      lost: the tasks that were lost, in order.
    """

    def __init__(self, limits: Limits, rng: np.random.Generator):
        """Begin with no nodes and no tasks; ``rng`` chooses among ready nodes."""
        self.counts: collections.Counter[str] = collections.Counter()
        self.lost: list[LostTask] = []
        self._limits, self._rng = limits, rng
        self._next_number = 0
        self._nodes: dict[int, _Node] = {}
        self._in_flight: dict[int, Task] = {}  # by number
        self._asked: dict[str, Task] = {}  # by message, in flight or given up

    # Scheduler

    def give_task(
        self, nodes: Collection[int], version: int, now: float
    ) -> Task | None:
        """Trigger a task on one of the nodes that are there, if one is ready.

        Of the ready nodes one of those with the fewest tasks is drawn. It must be told
        afterwards whether the task could be sent.

        Args:
          nodes: that are there now.
          version: of the newest model.
          now: seconds.

        Returns:
          The task; None if no node is ready or enough tasks are in flight.
        """
        if len(self._in_flight) >= self._limits.max_in_flight:
            return None
        ready = [node for node in nodes if self._is_ready(node, now)]
        if not ready:
            return None
        fewest = min(self._node(node).in_flight for node in ready)
        idle = sorted(n for n in ready if self._node(n).in_flight == fewest)
        node = idle[int(self._rng.integers(len(idle)))]
        state = self._node(node)
        number, self._next_number = self._next_number, self._next_number + 1
        deadline = now + self._limits.deadline
        task = Task(number, node, state.client, version, now, deadline)
        state.in_flight += 1
        self._in_flight[number] = task
        return task

    def note_sent(self, task: Task, message: str) -> None:
        """Note the id of the message that a task was sent with."""
        self._asked[message] = task

    def note_unsent(self, task: Task, now: float) -> None:
        """Note that the network did not take a task."""
        self.fail(task, "not sent", now)

    # Updater

    @property
    def in_flight(self) -> list[Task]:
        """Tasks that are given out and not answered, oldest first."""
        return list(self._in_flight.values())

    def waiting(self) -> list[str]:
        """Return the messages whose replies may still come, oldest first."""
        return list(self._asked)

    def take(self, message: str, node: int | None, now: float) -> Task | None:
        """Take the reply to a message: the task that it answers.

        The task stays in flight until ``accept``, ``fail``, ``reject`` or ``drop``
        ends it, so that its node gets no other one from the version before it.

        Args:
          message: that is replied to.
          node: that replies; None if the network itself does.
          now: seconds.

        Returns:
          The task, whose reply cannot be taken again; None if the reply is nobody's:
          to a message that was not sent or was answered, to a task that was given up,
          or from another node than was asked.
        """
        task = self._asked.pop(message, None)
        if task is None:
            self.counts["unasked"] += 1
        elif task.number not in self._in_flight:
            self.counts["late"] += 1
        elif node not in (None, task.node):
            self._lose(task, "wrong node", now)
        else:
            return task
        return None

    def accept(self, task: Task) -> None:
        """Note a good reply: its node's faults are forgiven."""
        self._close(task)
        self._node(task.node).faults = 0

    def drop(self, task: Task, cause: str, now: float) -> None:
        """Note a reply that is not used, for which its node cannot be blamed."""
        self._node(task.node).faults = 0
        self._lose(task, cause, now)

    def fail(self, task: Task, cause: str, now: float) -> None:
        """Note a fault: its node is left alone for a while."""
        state = self._node(task.node)
        state.faults += 1
        state.ready_at = now + self._limits.pause_after(state.faults)
        self._lose(task, cause, now)

    def reject(self, task: Task, cause: str, now: float) -> bool:
        """Note a bad reply; return whether its node is never asked again."""
        self._node(task.node).bad += 1
        self.fail(task, cause, now)
        return self.is_banned(task.node)

    def check_stamp(
        self, task: Task, number: int | None, version: int | None
    ) -> str | None:
        """Return what is wrong with the task and version that a reply names."""
        if number != task.number:
            return "wrong task"
        return None if version == task.version else "wrong time stamp"

    def is_too_stale(self, task: Task, version: int) -> bool:
        """Return whether the task is too late to be mixed into ``version``."""
        limit = self._limits.max_staleness
        return limit is not None and version - task.version > limit

    def expire(self, now: float) -> list[Task]:
        """Give up the tasks whose deadline is over, and return them.

        Their replies are waited for as long again, to be counted as late.
        """
        over = [task for task in self._in_flight.values() if task.deadline <= now]
        for task in over:
            self.fail(task, "deadline", now)
        for message, task in list(self._asked.items()):
            if task.deadline + self._limits.deadline <= now:
                del self._asked[message]
        return over

    def finish(self, now: float) -> None:
        """End the run: what is in flight is lost."""
        for task in self.in_flight:
            self._lose(task, UNFINISHED_TASK, now)

    def is_banned(self, node: int) -> bool:
        """Return whether a node sent too many bad replies."""
        return self._node(node).bad >= self._limits.max_bad_replies

    @property
    def nodes(self) -> list[int]:
        """Flower's numbers of the nodes, by client."""
        return sorted(self._nodes, key=lambda node: self._nodes[node].client)

    # What a new run of the server needs to know

    def to_json(self) -> dict[str, Any]:
        """Return nodes, bad replies and counts; tasks in flight are not kept."""
        return {
            "next_number": self._next_number,
            "nodes": [[node, self._nodes[node].bad] for node in self.nodes],
            "counts": dict(self.counts),
            "lost": [[*lost.task, lost.end_time, lost.cause] for lost in self.lost],
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Take over what ``to_json`` of an earlier run returned."""
        self._next_number = content["next_number"]
        for node, bad in content["nodes"]:
            self._node(node).bad = bad
        self.counts.update(content["counts"])
        rows = content["lost"]
        self.lost += [LostTask(Task(*row[:-2]), row[-2], row[-1]) for row in rows]

    def _node(self, node: int) -> _Node:
        return self._nodes.setdefault(node, _Node(len(self._nodes)))

    def _is_ready(self, node: int, now: float) -> bool:
        state = self._nodes.get(node, _Node(-1))
        is_free = state.in_flight < self._limits.max_per_node
        is_good = state.bad < self._limits.max_bad_replies
        return is_free and is_good and state.ready_at <= now

    def _close(self, task: Task) -> None:
        del self._in_flight[task.number]
        self._node(task.node).in_flight -= 1

    def _lose(self, task: Task, cause: str, now: float) -> None:
        self._close(task)
        self.counts[cause] += 1
        self.lost.append(LostTask(task, now, cause))
