"""What a reply must be before it is mixed; whatever is wrong with it has a name."""

from typing import NamedTuple

from fedasync_jax.base import Variables
from fedasync_jax.flower import adapter, arrays
from fedasync_jax.flower.adapter import Reply, Report, Stamp
from fedasync_jax.flower.arrays import BadReply
from fedasync_jax.flower.norms import NormBounds
from fedasync_jax.flower.tasks import Task


class Update(NamedTuple):
    """A reply that may be mixed.

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


def check_reply(
    task: Task, reply: Reply, start: Variables, bounds: NormBounds
) -> Update:
    """Return what is in a reply.

    Args:
      task: that it answers.
      reply: as it came.
      start: x_tau, that was sent.
      bounds: how long an update may be.

    Raises:
      BadReply: if anything is wrong with it.
    """
    if reply.message is None:
        raise BadReply(str(reply.error), reply.detail)
    try:
        stamp = adapter.read_stamp(reply.message)
        raw = adapter.read_model(reply.message)
        report = adapter.read_report(reply.message)
    except BadReply:
        raise
    except Exception as error:  # whatever strange content does to its readers
        raise BadReply("malformed", repr(error)[:200]) from error
    check_stamp(task, stamp)
    local = arrays.decode(raw, start)
    norm = arrays.measure_update(local, start)
    scale = bounds.shorten(norm)
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
