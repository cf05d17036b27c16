"""Settings of the fleet: how fast the devices are, and when they can be had."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

from fedasync_jax.fleet.availability import LOSE, PAUSE
from fedasync_jax.fleet.habits import AVAILABILITIES
from fedasync_jax.fleet.laws import DELAY_LAWS
from fedasync_jax.parts.bounds import (
    FRACTION,
    above,
    at_least,
    one_of,
    show_value,
)
from fedasync_jax.parts.registry import Setting, merge_settings
from fedasync_jax.parts.settings import PartSettings

TASK_SIGMA = 0.25  # a device is far more like itself than like another


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetSettings(PartSettings):
    """Devices, their network and their habits; times in simulated seconds.

    Attributes:
      client_law: Law from which the slowness of each client is drawn, once: a factor on
        the duration of a step.
      availability: Time when devices can take part: always; on-off (idle and in use in
        turns); daily (the hours of charging); idle-charging-unmetered (all three at
        once); or replay, from a file.
      seconds_per_step: Simulated seconds of one local step on a client of factor 1.
      speeds_path: CSV or Parquet file with the columns client and seconds_per_step; the
        client law becomes a factor on these.
      task_law: Law from which a further factor is drawn for every single task.
      downlink: Bytes per second at which a client of factor 1 receives the model; by
        default a download takes no time.
      uplink: Bytes per second at which a client of factor 1 sends the model; by default
        an upload takes no time.
      latency: Seconds added to each transfer.
      network_law: Law from which the slowness of each client's network is drawn.
      when_away: Fate of a task whose device goes away: pause (it goes on later) or
        lose.
      failure_rate: Probability that a task fails by itself, in [0, 1).

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    client_law: Annotated[str, one_of(DELAY_LAWS)] = "log-normal"
    availability: Annotated[str, one_of(AVAILABILITIES)] = "always"
    seconds_per_step: Annotated[float, above(0)] = 1.0
    speeds_path: Path | None = None
    task_law: Annotated[str, one_of(DELAY_LAWS)] = "constant"
    downlink: Annotated[float, above(0)] | None = None
    uplink: Annotated[float, above(0)] | None = None
    latency: Annotated[float, at_least(0)] = 0.0
    network_law: Annotated[str, one_of(DELAY_LAWS)] = "constant"
    when_away: Annotated[str, one_of((PAUSE, LOSE))] = PAUSE
    failure_rate: Annotated[float, FRACTION] = 0.0

    @classmethod
    def choices(cls) -> dict[str, Setting]:
        """Return the settings of laws and availabilities."""
        return merge_settings(
            DELAY_LAWS.settings("client_"),
            AVAILABILITIES.settings(),
            DELAY_LAWS.settings("task_", sigma=TASK_SIGMA),
            DELAY_LAWS.settings("network_"),
        )

    def __post_init__(self) -> None:
        """Check what fits together."""
        super().__post_init__()
        shares, factors = (self.of_choices[f"tier_{n}"] for n in ("shares", "factors"))
        if len(factors) != len(shares) or not all(0 < f < math.inf for f in factors):
            raise ValueError(
                f"tier_factors must be {len(shares)} numbers (one per share), finite "
                f"and > 0, got {show_value(factors)}"
            )
        path = self.of_choices["availability_path"]
        if (self.availability == "replay") != (path is not None):
            raise ValueError(
                "availability_path must be a file for availability replay and is not "
                f"used otherwise, got {path} for {self.availability}"
            )
