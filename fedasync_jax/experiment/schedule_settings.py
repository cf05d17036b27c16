"""Settings of the schedule: who gets a task, when, and how long the server waits."""

import dataclasses

from fedasync_jax.experiment.fleet_settings import FleetSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleSettings(FleetSettings):
    """Scheduler, sampled staleness and rounds; times in simulated seconds.

    Attributes:
      clients_per_round: Clients per round of fedavg and fedprox (k).
      schedule: immediate (every arrival is replaced at once), periodic (triggers at an
        interval) or sampled (the paper's: staleness drawn, no clock).
      concurrency: Tasks in flight, of schedule immediate.
      interval: Simulated seconds between triggers, of schedule periodic.
      num_triggered: Idle workers triggered at a time, of schedule periodic.
      max_staleness: Newest versions to draw the start from, of schedule sampled.
      over_selection: Share of clients that a round of fedavg triggers besides
        clients_per_round; it ends when it has that many models.
      round_deadline: If set, simulated seconds after which a round of fedavg ends.
      time_out: If set, simulated seconds after which the server gives a task up.
      client_choice: Whom a task goes to: uniform, or in proportion to data-size.
      max_tasks_per_client: If set, tasks that a client gets at most.

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    clients_per_round: int = 10
    schedule: str = "immediate"
    concurrency: int = 20
    interval: float = 5.0
    num_triggered: int = 10
    max_staleness: int = 4
    over_selection: float = 0.0
    round_deadline: float | None = None
    time_out: float | None = None
    client_choice: str = "uniform"
    max_tasks_per_client: int | None = None

    def __post_init__(self) -> None:
        """Check what fits together."""
        super().__post_init__()
        if self.schedule != "sampled":
            return
        for name in ("client_choice", "max_tasks_per_client"):
            default = getattr(ScheduleSettings, name)
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name} must be {default} for schedule sampled, which draws "
                    f"clients uniformly with replacement, got {getattr(self, name)}"
                )
