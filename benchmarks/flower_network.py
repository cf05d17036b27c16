"""A Flower network in memory and in simulated time, for the real server.

The server, its Coordinator, its checks and its Updater are those of every run over a
network, and so are the messages. Only the machines in between are not there: a reply
comes as many seconds after its task as its node says, on a clock that the caller moves.
"""

import dataclasses
from collections.abc import Callable, Mapping

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity

Answer = Callable[[Message], Message | None]


@dataclasses.dataclass(frozen=True)
class SimulatedNode:
    """A node.

    Attributes:
      answer: ``answer(message)`` returns the reply; None: there never is one.
      draw_seconds: ``draw_seconds()`` returns how long the next task takes.
    """

    answer: Answer
    draw_seconds: Callable[[], float]


class SimulatedGrid:
    """A network that speaks as Flower's grids do, as far as the server uses them.

    Attributes:
      ticks: turns of the clock so far; whole numbers, so that times are exact.
      seconds: of one tick.
    """

    def __init__(self, nodes: Mapping[int, SimulatedNode], seconds: float):
        """Connect the nodes, by their numbers."""
        # What Flower sets in the process of a server.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.ticks, self.seconds = 0, seconds
        self._nodes, self._num_messages = nodes, 0
        self._replies: dict[str, tuple[int, Message]] = {}  # with the tick they come

    def now(self) -> float:
        """Return the simulated seconds so far."""
        return self.ticks * self.seconds

    def get_nodes(self) -> list[NodeInfo]:
        """Return the nodes that are there: all of them, without keys."""
        return [NodeInfo(node_id=number) for number in self._nodes]

    def push_messages(self, messages: list[Message]) -> list[str]:
        """Take messages to nodes; return their ids."""
        return [self._push(message) for message in messages]

    def pull_messages(self, ids: list[str]) -> list[Message]:
        """Return the replies to these messages that are there by now."""
        there = [i for i in ids if i in self._replies and self._is_there(i)]
        return [self._replies.pop(i)[1] for i in there]

    def _push(self, message: Message) -> str:
        name = f"message {self._num_messages}"
        self._num_messages += 1
        message.metadata.__dict__["_message_id"] = name
        node = self._nodes[message.metadata.dst_node_id]
        ticks = round(node.draw_seconds() / self.seconds)
        reply = node.answer(message)
        if reply is not None:
            self._replies[name] = self.ticks + ticks, reply
        return name

    def _is_there(self, name: str) -> bool:
        return self._replies[name][0] <= self.ticks
