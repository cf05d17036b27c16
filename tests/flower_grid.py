"""A Flower network in memory, and honest nodes, for tests of the server."""

import threading
import time

import jax
import numpy as np
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity

from fedasync_jax.base import Variables
from fedasync_jax.flower import arrays
from fedasync_jax.flower.adapter import Report, Trained, make_reply, read_stamp

# What Flower sets in the process of a server.
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def make_model(value=0.0):
    return Variables({"w": np.full(3, value, np.float32)})


def good(message, number):
    """Return the honest reply of a task: the model that was sent, plus one."""
    model = arrays.decode(
        {
            name: arrays.RawArray(a.dtype, tuple(a.shape), a.data)
            for name, a in message.content["model"].items()
        },
        make_model(),
    )
    trained = jax.tree.map(lambda leaf: leaf + np.float32(1), model)
    report = Report(0.5, 3, 20, 0)
    sent = Trained(arrays.encode(trained), report)
    return make_reply(message, read_stamp(message), sent)


def slow(message, place):
    """Return the honest reply after a while, so that others get their turns."""
    time.sleep(0.01)
    return good(message, place)


class Grid:
    """A network in memory: ``replies[node](message, place)`` answers, or None.

    It speaks as Flower's grids do, as far as the server uses them.
    """

    def __init__(self, replies, keys=()):
        self.replies, self.asked, self.keys = replies, [], dict(keys)
        self.answers, self.counts = {}, {}
        self.lock = threading.Lock()

    def get_nodes(self):
        keys = self.keys
        return [NodeInfo(node_id=n, public_key=keys.get(n, b"")) for n in self.replies]

    def push_messages(self, messages):
        (message,) = messages
        node = message.metadata.dst_node_id
        with self.lock:
            name = f"message {len(self.asked)}"
            self.asked.append(node)
            message.metadata.__dict__["_message_id"] = name
            place = self.counts.get(node, 0)
            self.counts[node] = place + 1
            reply = self.replies[node](message, place)
            if reply == "unknown":
                return [""]
            if reply is not None:
                self.answers[name] = reply
        return [name]

    def pull_messages(self, names):
        with self.lock:
            found = [self.answers.pop(name) for name in names if name in self.answers]
        for reply in found:
            if isinstance(reply, Exception):
                raise reply
        return found


def replay(updates):
    """Return the weights that the recorded arrivals give: literal Algorithm 1."""
    versions = [0.0]
    for start, alpha in zip(updates["start_version"], updates["alpha"], strict=True):
        versions.append((1 - alpha) * versions[-1] + alpha * (versions[start] + 1))
    return np.full(3, versions[-1])
