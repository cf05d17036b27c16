"""Settings of the schedule: who gets a task, when, and how long the server waits."""

import dataclasses
from typing import Annotated

from fedasync_jax.parts.bounds import above, at_least, one_of
from fedasync_jax.parts.registry import Setting
from fedasync_jax.parts.settings import PartSettings
from fedasync_jax.schedule.schedulers import SCHEDULES, RoundSelection, Sampled


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleSettings(PartSettings):
    """Scheduler, sampled staleness and rounds; times in simulated seconds.

    Attributes:
      schedule: Moment at which tasks are triggered: immediate (a new one for every
        arrival), periodic (some at an interval) or sampled (as in the paper: the
        staleness is drawn and there is no clock).
      clients_per_round: Clients per round of fedavg and fedprox (k).
      over_selection: Share of clients that a round of fedavg triggers in excess of
        clients_per_round; the round ends when it has clients_per_round models.
      round_deadline: Simulated seconds after which a round of fedavg ends with what it
        has.
      round_selection: Origin of the clients of a round of fedavg: draws (from all
        clients, anew for every round) or permutation (each client once, in a random
        order, before any comes again).
      time_out: Simulated seconds after which the server gives up a task.
      client_choice: Rule by which clients are drawn: uniform, or in proportion to
        data-size.
      max_tasks_per_client: Largest number of tasks that a client may get.

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    schedule: Annotated[str, one_of(SCHEDULES)] = "immediate"
    clients_per_round: Annotated[int, at_least(1)] = 10
    over_selection: Annotated[float, at_least(0)] = 0.0
    round_deadline: Annotated[float, above(0)] | None = None
    round_selection: RoundSelection = "draws"
    time_out: Annotated[float, above(0)] | None = None
    client_choice: Annotated[str, one_of(("uniform", "data-size"))] = "uniform"
    max_tasks_per_client: Annotated[int, at_least(1)] | None = None

    @classmethod
    def choices(cls) -> dict[str, Setting]:
        """Return the settings of the schedulers."""
        return SCHEDULES.settings()

    def __post_init__(self) -> None:
        """Check what fits together."""
        super().__post_init__()
        if self.round_selection == "permutation" and self.client_choice != "uniform":
            raise ValueError(
                "client_choice must be uniform for round_selection permutation, where "
                f"all clients have as many turns, got {self.client_choice}"
            )
        if self.has_clock:
            return
        for name in ("client_choice", "max_tasks_per_client"):
            default = getattr(ScheduleSettings, name)
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name} must be {default} for schedule sampled, which draws "
                    f"clients uniformly with replacement, got {getattr(self, name)}"
                )

    @property
    def has_clock(self) -> bool:
        """Whether times are simulated seconds."""
        return SCHEDULES[self.schedule] is not Sampled
