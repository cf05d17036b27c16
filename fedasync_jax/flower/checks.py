"""What a reply must be before it is mixed; whatever is wrong with it has a name."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from fedasync_jax.base import Variables
from fedasync_jax.flower import adapter, arrays
from fedasync_jax.flower.adapter import Reply
from fedasync_jax.flower.arrays import BadReply
from fedasync_jax.flower.norms import NormBounds
from fedasync_jax.flower.tasks import Report, Stamp, Task

_R = TypeVar("_R")


class Update(NamedTuple):
    """A model of a reply that may be mixed.

    Attributes:
      local: x_new, shortened if it was too long.
      report: what the node tells.
      norm: ||x_new - x_tau||, as it came.
      scale: by what that was multiplied, 1 if it was short enough.
    """

    local: Variables
    report: Report
    norm: float
    scale: float


def check_reply(task: Task, reply: Reply, num_clients: int) -> int:
    """Return how many models a reply has, whatever they are.

    Args:
      task: that it answers.
      reply: as it came.
      num_clients: of the node that might train.

    Raises:
      BadReply: if it answers another task, or has no model or too many.
    """
    if reply.message is None:
        raise BadReply(str(reply.error), reply.detail)
    check_stamp(task, _read(adapter.read_stamp, reply.message))
    count = _read(adapter.count_models, reply.message)
    if not 1 <= count <= num_clients:
        raise BadReply(
            "malformed", f"it must have 1..{num_clients} models, got {count}"
        )
    return count


def check_model(
    reply: Reply, place: int, task: Task, start: Variables, bounds: NormBounds
) -> Update:
    """Return one of the models in a reply.

    Args:
      reply: as it came.
      place: of the model, from 0.
      task: that it answers.
      start: x_tau, that was sent.
      bounds: how long an update may be.

    Raises:
      BadReply: if anything is wrong with it.
    """
    raw = _read(adapter.read_model, reply.message, place)
    report = _read(adapter.read_report, reply.message, place)
    local = arrays.decode(raw, start)
    norm = arrays.measure_update(local, start)
    scale = bounds.shorten(norm, task.client)
    return Update(arrays.scale_update(local, start, scale), report, norm, scale)


def check_stamp(task: Task, stamp: Stamp) -> None:
    """Compare the task and version that a reply names with those that were sent.

    Raises:
      BadReply: if either is another.
    """
    if stamp == (task.number, task.version):
        return
    cause = "wrong task" if stamp.number != task.number else "wrong time stamp"
    raise BadReply(
        cause,
        f"it must name task {task.number} of version {task.version}, "
        f"got {stamp.number} of {stamp.version}",
    )


def _read(read_fn: Callable[..., _R], *args: Any) -> _R:
    """Return what is read of a message, or raise ``BadReply`` whatever happens."""
    try:
        return read_fn(*args)
    except BadReply:
        raise
    except Exception as error:  # whatever strange content does to its readers
        raise BadReply("malformed", repr(error)[:200]) from error
