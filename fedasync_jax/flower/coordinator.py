"""The Coordinator's books: which node has which task of which version until when.

No network, no threads, no clock: time is an argument, in seconds of any clock that
never goes back. Every task is answered once; whatever else comes is counted by its
cause and never reaches the Updater.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Scheduler, Coordinator).
"""

import collections
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.nodes import Roster
from fedasync_jax.flower.tasks import (
    SILENT,
    UNDONE,
    UNFINISHED_TASK,
    LostTask,
    Task,
)

Weights = Iterable[tuple[int, float]]


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
        self._roster = Roster(limits)
        self._next_number = self._num_looks = 0
        self._answered_at = -np.inf  # when the newest good reply came
        self._in_flight: dict[int, Task] = {}  # by number
        self._asked: dict[str, Task] = {}  # by message, in flight or given up

    # Scheduler

    def recognize(self, keys: Mapping[int, str]) -> list[tuple[int, int]]:
        """Take nodes for those that they were under other numbers, see ``Roster``."""
        return self._roster.recognize(keys)

    def give_task(
        self, nodes: Collection[int], version: int, now: float
    ) -> Task | None:
        """Trigger a task on one of the nodes that are there, if one is ready.

        Of the ready nodes one of those with the fewest tasks is drawn, see ``nodes``.
        It must be told afterwards whether the task could be sent.

        Args:
          nodes: that are there now.
          version: of the newest model.
          now: seconds.

        Returns:
          The task; None if no node is ready or enough tasks are in flight.
        """
        if len(self._in_flight) >= self._limits.max_in_flight:
            return None
        node = self._roster.draw(nodes, now, self._rng)
        if node is None:
            return None
        record = self._roster[node]
        number = self._next_number  # the others of its message have the next ones
        self._next_number += self._limits.clients_per_message
        deadline = now + self._limits.deadline
        task = Task(number, node, record.client, version, now, deadline)
        record.in_flight += 1
        self._in_flight[number] = task
        return task

    def note_sent(self, task: Task, message: str) -> None:
        """Note the id of the message that a task was sent with."""
        self._asked[message] = task

    def note_unsent(self, task: Task, now: float) -> None:
        """Note that the network did not take a task, unless it was given up before."""
        if task.number in self._in_flight:
            self.fail(task, "not sent", now)

    # Updater

    @property
    def in_flight(self) -> list[Task]:
        """Tasks that are given out and not answered, oldest first."""
        return list(self._in_flight.values())

    def waiting(self) -> list[str]:
        """Return the messages to look at now, oldest first.

        Those of all tasks in flight, and of those that were given up one, each in its
        turn: silent nodes must not fill the time of the Updater.
        """
        in_flight, given_up = [], []
        for message, task in self._asked.items():
            is_open = task.number in self._in_flight
            (in_flight if is_open else given_up).append(message)
        self._num_looks += 1
        return in_flight + given_up[self._num_looks % max(1, len(given_up)) :][:1]

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
            if node == task.node:
                self._roster.note_late(task.node, now - task.start_time, now)
        elif node not in (None, task.node):
            self._lose(task, "wrong node", now)
        else:
            return task
        return None

    def split(self, task: Task, num_models: int) -> list[Task]:
        """Put a task for each model of a reply in the place of the one that was sent.

        They have consecutive numbers, and each is ended on its own.
        """
        self._close(task)
        parts = [task._replace(number=task.number + i) for i in range(num_models)]
        self._in_flight.update((part.number, part) for part in parts)
        self._roster[task.node].in_flight += num_models
        return parts

    def accept(self, task: Task, now: float, weight: float = 1.0) -> None:
        """Note a good reply: its node's faults are forgiven.

        Args:
          task: that was answered.
          now: seconds.
          weight: with which its model was mixed.
        """
        self._close(task)
        self._answered_at = now
        self._roster[task.node].answers += 1
        self._roster.note_answer(task.node, now - task.start_time)
        self._roster.note_weight(task.client, weight)

    def drop(self, task: Task, cause: str, now: float) -> None:
        """Note a reply that is not used, for which its node cannot be blamed."""
        self._roster.note_answer(task.node, now - task.start_time)
        self._lose(task, cause, now)

    def fail(self, task: Task, cause: str, now: float) -> None:
        """Note a fault: its node is left alone for a while."""
        self._roster.note_fault(task.node, now)
        self._lose(task, cause, now)

    def reject(self, task: Task, cause: str, now: float, *, blame: bool = True) -> bool:
        """Note a bad model; return whether its node is never asked again.

        Args:
          task: of the model.
          cause: what is wrong with it.
          now: seconds.
          blame: whether it makes a bad reply; False if one in the same reply did.
        """
        if not blame:
            self._lose(task, cause, now)
            return False
        self._roster[task.node].bad += 1
        self.fail(task, cause, now)
        return self.is_banned(task.node)

    def is_too_stale(self, task: Task, version: int) -> bool:
        """Return whether the task is too late to be mixed into ``version``."""
        limit = self._limits.max_staleness
        return limit is not None and version - task.version > limit

    def expire(self, now: float) -> list[Task]:
        """Give up the tasks whose time is over, and return them.

        Their replies are waited for as long as messages live, to be counted as late.
        """
        over = [task for task in self._in_flight.values() if self._is_over(task, now)]
        for task in over:
            others_answer = self._answered_at > task.start_time
            self._roster.note_silence(task.node, others_answer=others_answer)
            self.fail(task, SILENT, now)
        for message, task in list(self._asked.items()):
            if task.deadline + self._limits.deadline <= now:
                del self._asked[message]
        return over

    def undo(self, mixed: Collection[Task], version: int, now: float) -> list[Task]:
        """Go back to a version: what was mixed or begun since is lost.

        Args:
          mixed: tasks whose models were mixed since.
          version: to go back to.
          now: seconds.

        Returns:
          The tasks in flight that are given up, since their models are gone.
        """
        self._note_lost(mixed, UNDONE, now)
        self._roster.note_undone({task.node for task in mixed}, now)
        gone = [task for task in self.in_flight if task.version > version]
        for task in gone:
            self._lose(task, UNDONE, now)
        return gone

    def finish(self, now: float) -> None:
        """End the run: what is in flight is lost."""
        for task in self.in_flight:
            self._lose(task, UNFINISHED_TASK, now)

    def is_banned(self, node: int) -> bool:
        """Return whether a node sent too many bad replies."""
        return self._roster.is_banned(node)

    def count_silences(self, node: int) -> int:
        """Return how many tasks in a row a node left unanswered."""
        return self._roster[node].silences

    def seconds_for(self, node: int) -> float:
        """Return the seconds after which a task of a node is given up."""
        return self._roster.seconds_for(node)

    @property
    def nodes(self) -> list[int]:
        """Flower's numbers of the nodes, by client."""
        return self._roster.numbers

    # What a new run of the server needs to know

    def to_json(self) -> dict[str, Any]:
        """Return nodes and counts; tasks, in flight or lost, are kept elsewhere."""
        return {
            "next_number": self._next_number,
            "nodes": self._roster.to_json(),
            "counts": dict(self.counts),
        }

    def restore(
        self, content: dict[str, Any], lost: Iterable[LostTask], weights: Weights = ()
    ) -> None:
        """Take over what an earlier run left.

        Args:
          content: what ``to_json`` returned.
          lost: the tasks that were lost.
          weights: of the arrivals that were mixed, clients with their weights.
        """
        self._next_number = content["next_number"]
        self._roster.restore(content["nodes"])
        self.counts.update(content["counts"])
        self.lost += lost
        for client, weight in weights:
            self._roster.note_weight(client, weight)

    def _is_over(self, task: Task, now: float) -> bool:
        return task.start_time + self._roster.seconds_for(task.node) <= now

    def _close(self, task: Task) -> None:
        del self._in_flight[task.number]
        self._roster[task.node].in_flight -= 1

    def _lose(self, task: Task, cause: str, now: float) -> None:
        self._close(task)
        self._note_lost([task], cause, now)

    def _note_lost(self, tasks: Collection[Task], cause: str, now: float) -> None:
        if tasks:
            self.counts[cause] += len(tasks)
        self.lost += [LostTask(task, now, cause) for task in tasks]
