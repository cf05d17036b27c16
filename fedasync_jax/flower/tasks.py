"""Tasks that were given out, what nodes tell of them, and why some were lost."""

from typing import NamedTuple

from fedasync_jax.schedule.trace import FAILED, LATE, LEFT, TIMED_OUT, UNFINISHED

SILENT = "deadline"  # nobody answered in time

# Why a task was lost though nobody sent anything bad, and its place in LOSS_REASONS.
FAULTS = {
    "not sent": LEFT,
    "node left": LEFT,
    "client error": FAILED,
    "client crashed": FAILED,
    "reply unavailable": FAILED,
    "expired": TIMED_OUT,
    SILENT: TIMED_OUT,
}
TOO_STALE, UNDONE, UNFINISHED_TASK = "too stale", "undone", "unfinished"
_REASONS = {
    **FAULTS,
    TOO_STALE: LATE,
    UNDONE: FAILED,
    UNFINISHED_TASK: UNFINISHED,
}


class Task(NamedTuple):
    """One triggered training.

    Attributes:
      number: in the order of the triggers; the task's random key is made from it.
      node: Flower's number of the node.
      client: ours, from 0 in the order in which nodes were first seen.
      version: tau, of the model that is sent.
      start_time: seconds.
      deadline: seconds; given up from then on, or sooner, see ``nodes``.
    """

    number: int
    node: int
    client: int
    version: int
    start_time: float
    deadline: float


class Stamp(NamedTuple):
    """What a message says of its task, true or not.

    Attributes:
      number: of the task; None if it says none.
      version: tau; None if it says none.
    """

    number: int | None
    version: int | None


class Report(NamedTuple):
    """What a node tells of a task, in range but not sure to be true.

    Attributes:
      loss: mean training loss; NaN if it is not finite.
      num_steps: H.
      num_samples: n_i.
      partition: which part of a known data set it has; -1 if none.
    """

    loss: float
    num_steps: int
    num_samples: int
    partition: int = -1


class LostTask(NamedTuple):
    """A task whose model was not mixed, or was and is no longer.

    Attributes:
      task: the task.
      end_time: when it was lost, seconds.
      cause: one of ``FAULTS``, "too stale", "undone", "unfinished" or what was bad of
        its reply.
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
