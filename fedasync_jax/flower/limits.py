"""What the server allows and how long it waits: numbers, checked when they are made."""

import dataclasses
import math
import typing
from typing import Annotated

from fedasync_jax.parts.bounds import Bounds, above, at_least, check_value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a run over a network; seconds are real ones.

    Attributes:
      max_in_flight: tasks given out and not yet answered, in all.
      max_per_node: the same per node; 2 keep a node busy while its reply travels, at
        the price of about one version more of staleness.
      clients_per_message: clients of one node that train for one message, each a task
        of its own; a node that holds fewer sends as many models as it has clients.
      max_staleness: versions that a reply may be late at most; None: any number.
      deadline: seconds from a task's start until it is given up, at the latest.
      min_deadline: seconds for which no task is given up.
      deadline_factor: between these two, a task is given up after so many times the
        seconds that three nodes in four need, or that its own node needed last.
      unproven_share: part of the places in flight for nodes without a good reply, and
        for those that are slow or do not answer, once one of them did not answer.
      max_silences: tasks in a row that a node may leave unanswered while others answer;
        every further one counts as a bad reply.
      back_off: seconds that a node is left alone after a fault; twice as long after
        each further one in a row.
      max_back_off: the longest such pause, in seconds.
      max_bad_replies: bad replies after which a node is never asked again.
      clip_norm_ratio: a longer update is shortened to so many times the median norm of
        the newest that were mixed.
      max_norm_ratio: a reply is bad if its update is longer than so many times the
        highest that this median was.
      max_update_norm: largest ||x_new - x_tau|| of a reply, over all arrays together;
        None: any that the two above allow.
      max_share: a node is not asked while its part of the weight that was mixed is more
        than so many times an equal part.
      max_undos: how often the server goes back to the last good version.
      hang_seconds: after these a call of Flower that does not return ends the run.
      poll_seconds: pause between two looks for replies and nodes.

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    max_in_flight: Annotated[int, at_least(1)] = 8
    max_per_node: Annotated[int, at_least(1)] = 1
    clients_per_message: Annotated[int, Bounds(1, 1000)] = 1
    max_staleness: Annotated[int, at_least(0)] | None = None
    deadline: Annotated[float, above(0)] = 600.0
    min_deadline: Annotated[float, above(0)] = 60.0
    deadline_factor: Annotated[float, above(1)] = 4.0
    unproven_share: Annotated[float, Bounds(0, 1, open_low=True)] = 0.25
    max_silences: Annotated[int, at_least(0)] = 3
    back_off: Annotated[float, above(0)] = 5.0
    max_back_off: Annotated[float, above(0)] = 300.0
    max_bad_replies: Annotated[int, at_least(1)] = 3
    clip_norm_ratio: Annotated[float, at_least(1)] = 2.0
    max_norm_ratio: Annotated[float, at_least(1)] = 10.0
    max_update_norm: Annotated[float, above(0)] | None = None
    max_share: Annotated[float, at_least(1)] = 4.0
    max_undos: Annotated[int, at_least(0)] = 10
    hang_seconds: Annotated[float, above(0)] = 120.0
    poll_seconds: Annotated[float, above(0)] = 0.2

    def __post_init__(self) -> None:
        """Check every field."""
        hints = typing.get_type_hints(Limits, include_extras=True)
        for name, hint in hints.items():
            check_value(name, hint, getattr(self, name))
        if self.max_back_off < self.back_off:
            raise ValueError(
                f"max_back_off must be >= back_off, which is {self.back_off}, "
                f"got {self.max_back_off}"
            )
        later = self.clients_per_message - 1
        if self.max_staleness is not None and self.max_staleness < later:
            raise ValueError(
                f"max_staleness must be >= {later}, what the last of "
                f"{self.clients_per_message} models of a message has at least, "
                f"got {self.max_staleness}"
            )

    @property
    def unproven_places(self) -> int:
        """Places in flight that nodes without a good record share, at least 1."""
        return max(1, int(self.unproven_share * self.max_in_flight))

    def pause_after(self, faults: int) -> float:
        """Return the seconds that a node is left alone after faults in a row.

        >>> [Limits(back_off=5, max_back_off=30).pause_after(n) for n in (1, 2, 3, 4)]
        [5.0, 10.0, 20.0, 30.0]
        """
        doublings = min(faults - 1, 60)  # no overflow
        return min(math.ldexp(self.back_off, doublings), float(self.max_back_off))
