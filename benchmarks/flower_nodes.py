"""Nodes that learn the digits honestly, and nodes that do harm, for simulated networks.

What a hostile node does to its reply is a function ``(start, trained) -> model`` of the
model that it was sent and the one that an honest node would have sent back.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flwr.app import Message

from benchmarks.flower_network import Answer
from fedasync_jax.base import Array, Variables
from fedasync_jax.experiment.build import build_workload
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.records import Workload
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.flower import adapter, arrays, work
from fedasync_jax.worker.sampling import steps_per_task

Spoil = Callable[[Variables, Variables], Variables]
_CLASSES = 10


def keep_silent(message: Message) -> None:
    """Take a task and never answer."""
    del message


def make_counter(like: Variables) -> Answer:
    """Return an honest node that trains nothing: it adds one to every number."""

    def answer(message: Message) -> Message:
        start = arrays.decode(adapter.read_model(message), like)
        trained = jax.tree.map(lambda leaf: leaf + np.float32(1), start)
        return _reply(message, trained, adapter.Report(0.5, 1, 1))

    return answer


class DigitsNodes:
    """Nodes that have parts of the digits.

    Attributes:
      workload: what they learn.
      variables: x_0.
    """

    def __init__(self, settings: Settings):
        """Deal the data to the clients of the settings."""
        self._settings = settings
        self.workload = build_workload(settings)
        self.variables: Variables = jax.jit(self.workload.model.init)(
            settings.make_key("init")
        )
        self._like = jax.device_get(self.variables)
        self._steps = steps_per_task(
            self.workload.counts,
            batch_size=settings.worker.batch_size,
            epochs=settings.worker.epochs or 1.0,
        )
        self._train = _make_train(settings, self.workload)
        flipped = self.workload.clients.arrays | {
            "y": _CLASSES - 1 - self.workload.clients.arrays["y"]
        }
        clients = self.workload.clients._replace(arrays=flipped)
        other = self.workload._replace(clients=clients)
        self._train_flipped = _make_train(settings, other)

    def make_node(self, part: int, spoil: Spoil, *, flip: bool = False) -> Answer:
        """Return a node with a part of the data.

        Args:
          part: which one.
          spoil: what becomes of its model.
          flip: whether it learns label 9 - c in place of c.
        """
        train = self._train_flipped if flip else self._train
        steps = int(self._steps[part])
        count = int(self.workload.counts[part])

        def answer(message: Message) -> Message:
            start = arrays.decode(adapter.read_model(message), self._like)
            number = adapter.read_stamp(message).number or 0
            key = work.task_key(self._settings, number)
            trained, loss = jax.device_get(train(start, part, key, steps))
            report = adapter.Report(float(loss), steps, count, part)
            return _reply(message, spoil(start, trained), report)

        return answer


def stay_honest(start: Variables, trained: Variables) -> Variables:
    """Send what was trained."""
    del start
    return trained


def make_jump(norm: float, seed: int) -> Spoil:
    """Return: a step of this norm in a random direction."""
    rng = np.random.default_rng(seed)

    def spoil(start: Variables, trained: Variables) -> Variables:
        del trained
        steps = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), start)
        length = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(steps)))
        return _add(start, steps, norm / length)

    return spoil


def make_stretch(factor: float) -> Spoil:
    """Return: the honest step times a factor, -1 to flip its sign."""

    def spoil(start: Variables, trained: Variables) -> Variables:
        steps = jax.tree.map(lambda new, old: new - old, trained, start)
        return _add(start, steps, factor)

    return spoil


def make_repeat() -> Spoil:
    """Return: the first model that this node trained, again and again."""
    first: list[Variables] = []

    def spoil(start: Variables, trained: Variables) -> Variables:
        del start
        first.append(trained)
        return first[0]

    return spoil


def send_nan(start: Variables, trained: Variables) -> Variables:
    """Send numbers that are none."""
    del start
    return jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), trained)


def replay_reply(answer: Answer) -> Answer:
    """Return a node that sends its first reply again, as it was."""
    first: list[Any] = []

    def again(message: Message) -> Message | None:
        reply = answer(message)
        if reply is None:
            return None
        first.append(reply.content)
        return Message(first[0], reply_to=message)

    return again


def _make_train(
    settings: Settings, workload: Workload
) -> Callable[..., tuple[Variables, Array]]:
    worker = make_worker(settings.worker, workload, rho=settings.worker.proximal_weight)

    @jax.jit
    def train(
        variables: Variables, client: int, key: Array, num_steps: int
    ) -> tuple[Variables, Array]:
        trained, info = worker(variables, jnp.asarray(client), key, num_steps)
        return trained, info.loss

    return train


def _add(start: Variables, steps: Variables, factor: float) -> Variables:
    return jax.tree.map(
        lambda old, step: (old + factor * step).astype(old.dtype), start, steps
    )


def _reply(message: Message, model: Variables, report: adapter.Report) -> Message:
    stamp = adapter.read_stamp(message)
    sent = adapter.Trained(arrays.encode(model), report)
    return adapter.make_reply(message, stamp, sent)
