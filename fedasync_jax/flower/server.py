"""The server of Algorithm 1: a Scheduler and an Updater that run concurrently.

The Scheduler gives tasks out as nodes become ready. The Updater takes the replies one
at a time, checks them, and mixes those that are good in the order of their arrival.
Neither ever waits for all nodes, or for the other. A reply with models of several
clients of a node is as many arrivals, one after the other: the second one is a version
staler than the first.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1.
"""

import collections
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fedasync_jax.flower import arrays
from fedasync_jax.flower.adapter import NodeNetwork, Reply
from fedasync_jax.flower.arrays import BadReply, RawArray
from fedasync_jax.flower.checks import Update, check_model, check_reply
from fedasync_jax.flower.coordinator import Coordinator
from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.norms import NormBounds
from fedasync_jax.flower.record import Arrival, make_arrival
from fedasync_jax.flower.server_log import ServerLog
from fedasync_jax.flower.tasks import FAULTS, TOO_STALE, LostTask, Task
from fedasync_jax.flower.updater import Newest, Updater

_REMIND = 30.0  # seconds between two lines that say what is waited for


class Server:
    """One run of the server.

    Attributes:
      arrivals: all that were mixed, in order.
      coordinator: the books.
      updater: the model.
    """

    def __init__(
        self,
        network: NodeNetwork,
        coordinator: Coordinator,
        updater: Updater,
        limits: Limits,
        clock: Callable[[], float],
    ):
        """Connect the parts; ``clock`` gives the seconds of the run."""
        self.arrivals: list[Arrival] = []
        self.coordinator, self.updater = coordinator, updater
        self._bounds = NormBounds(limits, updater.newest.variables)
        self._network, self._limits, self._clock = network, limits, clock
        self._lock = threading.Lock()  # of the coordinator
        self._starts: dict[int, Newest] = {}  # by task
        self._encoded: tuple[Newest | None, dict[str, RawArray]] = (None, {})
        self._stopped, self._wake = threading.Event(), threading.Event()
        self._told, self._log = -_REMIND, ServerLog(network)

    def run(self, num_updates: int, on_update: Callable[[], None]) -> None:
        """Go on until there are so many versions.

        Args:
          num_updates: T.
          on_update: called by the Updater after every version.

        Raises:
          Exception: what either of the two ended with; a bad reply is not among it.
        """
        with ThreadPoolExecutor(1) as executor:
            scheduler = executor.submit(self._schedule)
            try:
                while self.updater.newest.version < num_updates:
                    if scheduler.done():
                        scheduler.result()
                    if not self.collect(num_updates, on_update):
                        self._stopped.wait(self._limits.poll_seconds)
            finally:
                self._stopped.set()
                self._wake.set()
        with self._lock:
            self.coordinator.finish(self._clock())

    def books(self) -> tuple[list[LostTask], dict[str, int]]:
        """Return the tasks that were lost so far and how often each cause occurred."""
        with self._lock:
            return list(self.coordinator.lost), dict(self.coordinator.counts)

    def to_json(self) -> dict[str, Any]:
        """Return the books of the Coordinator, as a new run takes them over."""
        with self._lock:
            return self.coordinator.to_json()

    def restore(
        self,
        newest: Newest,
        arrivals: list[Arrival],
        lost: list[LostTask],
        books: dict[str, Any],
    ) -> None:
        """Take over what an earlier run of the server left, before ``run``."""
        self.updater.go_to(newest)
        self.arrivals[:] = arrivals
        weights = [(arrival.client, arrival.alpha) for arrival in arrivals]
        self.coordinator.restore(books, lost, weights)
        self._measure_again()

    def go_back(self, newest: Newest) -> collections.Counter[int]:
        """Go back to an earlier version; to be called by the Updater.

        Returns:
          Of which nodes models were mixed since, and how many of each.
        """
        with self._lock:
            nodes = self.coordinator.nodes
            mixed = [
                arrival.as_task(nodes[arrival.client], self._limits.deadline)
                for arrival in self.arrivals[newest.version :]
            ]
            gone = self.coordinator.undo(mixed, newest.version, self._clock())
            for task in gone:
                self._starts.pop(task.number, None)
            del self.arrivals[newest.version :]
            self.updater.go_to(newest)
        self._measure_again()
        return collections.Counter(task.node for task in mixed)

    def _measure_again(self) -> None:
        self._bounds.restore((a.norm, a.client) for a in self.arrivals)

    # Scheduler

    def _schedule(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            self.give_out()
            self._wake.wait(self._limits.poll_seconds)

    def give_out(self) -> None:
        """Take one turn of the Scheduler: give tasks to all nodes that are ready."""
        nodes = self._network.nodes()
        with self._lock:
            known = self.coordinator.recognize(nodes)
        for pair in known:
            self._log.recognize(*pair)
        while not self._stopped.is_set() and self._trigger(nodes):
            pass
        self._tell_of_waiting(nodes)

    def _trigger(self, nodes: Collection[int]) -> bool:
        """Give out one task with the newest model; return whether a node was ready."""
        with self._lock:
            newest = self.updater.newest
            task = self.coordinator.give_task(nodes, newest.version, self._clock())
            if task is None:
                return False
            self._starts[task.number] = newest
        if self._encoded[0] is not newest:
            self._encoded = newest, arrays.encode(newest.variables)
        # Twice the deadline: what comes late is counted as late.
        seconds = 2 * self._limits.deadline
        num_clients = self._limits.clients_per_message
        message = self._network.push(task, self._encoded[1], seconds, num_clients)
        with self._lock:
            if message is None:
                self._starts.pop(task.number, None)
                self.coordinator.note_unsent(task, self._clock())
            else:
                self.coordinator.note_sent(task, message)
        return True

    def _tell_of_waiting(self, nodes: Collection[int]) -> None:
        now = self._clock()
        with self._lock:
            if self.coordinator.in_flight or now < self._told + _REMIND:
                return
            banned = sum(self.coordinator.is_banned(node) for node in nodes)
        self._told = now
        self._log.wait(len(nodes), banned)

    # Updater

    def collect(self, num_updates: int, on_update: Callable[[], None]) -> bool:
        """Take one turn of the Updater: all replies that are there, as ``run`` does.

        Returns:
          Whether any was.
        """
        with self._lock:
            given_up = self.coordinator.expire(self._clock())
            for task in given_up:
                del self._starts[task.number]
            waiting = self.coordinator.waiting()
        for task in given_up:
            self._tell_of_silence(task)
        came = False
        for message in waiting:
            reply = self._network.pull(message)
            if reply is None:
                continue
            came = True
            self._take_in(message, reply, num_updates, on_update)
            self._wake.set()  # a node may be idle
            if self.updater.newest.version == num_updates:
                break
        return came

    def _take_in(
        self,
        message: str,
        reply: Reply,
        num_updates: int,
        on_update: Callable[[], None],
    ) -> None:
        """Take one reply: its models are checked and mixed one by one."""
        blame = True  # one bad model or several: one bad reply
        for place, task in enumerate(self._open(message, reply)):
            if self.updater.newest.version == num_updates:
                return  # the others are unfinished
            with self._lock:
                start = self._starts.pop(task.number, None)
            if start is None:
                continue  # the one before it exploded, and the start model is gone
            try:
                update = check_model(reply, place, task, start.variables, self._bounds)
            except BadReply as bad:
                self._reject(task, bad, blame=blame)
                blame = False
                continue
            if self._mix(task, start, update):
                on_update()

    def _open(self, message: str, reply: Reply) -> list[Task]:
        """Take one reply; return a task for each of its models, none if it is bad."""
        with self._lock:
            task = self.coordinator.take(message, reply.node, self._clock())
            if task is None:
                return []
            start = self._starts.pop(task.number)
            if reply.error in FAULTS:
                self.coordinator.fail(task, reply.error, self._clock())
        if reply.error in FAULTS:
            self._log.lose(task, reply.error, reply.detail)
            return []
        try:
            count = check_reply(task, reply, self._limits.clients_per_message)
        except BadReply as bad:
            self._reject(task, bad)
            return []
        with self._lock:
            parts = self.coordinator.split(task, count)
            self._starts.update((part.number, start) for part in parts)
        return parts

    def _reject(self, task: Task, bad: BadReply, *, blame: bool = True) -> None:
        with self._lock:
            now = self._clock()
            banned = self.coordinator.reject(task, bad.cause, now, blame=blame)
        self._log.lose(task, bad.cause, str(bad))
        if banned:
            self._log.ban(task.node)

    def _mix(self, task: Task, start: Newest, update: Update) -> bool:
        version = self.updater.newest.version
        if self.coordinator.is_too_stale(task, version):
            with self._lock:
                self.coordinator.drop(task, TOO_STALE, self._clock())
            return False
        mixing = self.updater.mix(
            update.local, start.variables, task.version, task.client
        )
        self._bounds.note(update.norm, task.client)
        now = self._clock()
        with self._lock:
            self.coordinator.accept(task, now, mixing.alpha)
            if update.scale < 1:
                self.coordinator.counts["shortened"] += 1
        self.arrivals.append(make_arrival(task, update, now, mixing))
        return True

    def _tell_of_silence(self, task: Task) -> None:
        with self._lock:
            row = self.coordinator.count_silences(task.node)
            banned = self.coordinator.is_banned(task.node)
            seconds = self._clock() - task.start_time
        self._log.miss(task, seconds, row)
        if banned:
            self._log.ban(task.node)
