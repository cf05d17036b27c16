"""Settings of the fleet: how fast the devices are, and when they can be had."""

import dataclasses
import math
from pathlib import Path

from fedasync_jax.experiment.checks import check_fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetSettings:
    """Devices, their network and their habits; times in simulated seconds.

    Attributes:
      seconds_per_step: Simulated seconds of one local step on a client of factor 1.
      speeds_path: If set, a CSV or Parquet file with columns client and
        seconds_per_step; then the client law is a factor on these.
      client_law: Law of how slow a client is for good: constant, uniform, exponential,
        log-normal, pareto (minimum 1) or tiers (classes of devices) of factors.
      client_sigma: Log-normal sigma of the client factors.
      client_range: Lowest and highest of uniform client factors.
      client_shape: Shape of Pareto client factors.
      task_law: Law of the factor on every single task, as client_law.
      task_sigma: Log-normal sigma of the task factors.
      task_range: Lowest and highest of uniform task factors.
      task_shape: Shape of Pareto task factors.
      tier_shares: Of the law tiers: share of the devices in each class; the rest has
        factor 1.
      tier_factors: Of the law tiers: factor of each class.
      downlink: If set, bytes per second at which a client of factor 1 gets the model.
      uplink: If set, bytes per second at which it sends the model.
      latency: Seconds that each transfer takes besides.
      network_law: Law of how slow a client's network is, as client_law.
      network_sigma: Log-normal sigma of the network factors.
      network_range: Lowest and highest of uniform network factors.
      network_shape: Shape of Pareto network factors.
      availability: When devices can take part: always; on-off (mean_on and mean_off);
        daily (the hours of charging); idle-charging-unmetered (all three at once: idle
        by mean_on and mean_off, charging by its hours, unmetered by its means); or
        replay, from availability_path.
      mean_on: Mean seconds that a device is idle at a time, exponential.
      mean_off: Mean seconds that it is in use at a time, exponential.
      charging_from: Local hour, in [0, 24), at which devices are plugged in.
      charging_hours: For how many hours, in (0, 24].
      time_zones: Zones that the clients are spread over, evenly around the day.
      unmetered_on: Mean seconds on an unmetered network at a time, exponential.
      unmetered_off: Mean seconds on a metered one, or none, at a time, exponential.
      availability_path: A CSV or Parquet file with columns client, start and end: when
        each was available, seconds.
      when_away: What happens to a task whose device goes away: pause or lose.
      failure_rate: Probability of a task to fail by itself, in [0, 1).

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    seconds_per_step: float = 1.0
    speeds_path: Path | None = None
    client_law: str = "log-normal"
    client_sigma: float = 1.0
    client_range: tuple[float, float] = (0.5, 1.5)
    client_shape: float = 2.0
    task_law: str = "constant"
    task_sigma: float = 0.25
    task_range: tuple[float, float] = (0.5, 1.5)
    task_shape: float = 2.0
    tier_shares: tuple[float, ...] = (0.2,)
    tier_factors: tuple[float, ...] = (8.0,)

    downlink: float | None = None
    uplink: float | None = None
    latency: float = 0.0
    network_law: str = "constant"
    network_sigma: float = 1.0
    network_range: tuple[float, float] = (0.5, 1.5)
    network_shape: float = 2.0

    availability: str = "always"
    mean_on: float = 3600.0
    mean_off: float = 3600.0
    charging_from: float = 22.0
    charging_hours: float = 8.0
    time_zones: int = 1
    unmetered_on: float = 14400.0
    unmetered_off: float = 7200.0
    availability_path: Path | None = None
    when_away: str = "pause"
    failure_rate: float = 0.0

    def __post_init__(self) -> None:
        """Check every field."""
        check_fields(self)
        for of in ("client", "task", "network"):
            low, high = getattr(self, f"{of}_range")
            if not 0 < low <= high < math.inf:
                raise ValueError(
                    f"{of}_range must be 0 < low <= high < inf, got {low} {high}"
                )
        self._check_tiers()
        if (self.availability == "replay") != (self.availability_path is not None):
            raise ValueError(
                "availability_path must be a file for availability replay and is not "
                f"used otherwise, got {self.availability_path} for {self.availability}"
            )

    def _check_tiers(self) -> None:
        shares, factors = self.tier_shares, self.tier_factors
        if not all(share > 0 for share in shares) or not sum(shares) <= 1 + 1e-9:
            raise ValueError(
                f"tier_shares must be > 0 and sum to 1 at most, got {_join(shares)}"
            )
        if len(factors) != len(shares) or not all(0 < f < math.inf for f in factors):
            raise ValueError(
                f"tier_factors must be {len(shares)} numbers (one per share), finite "
                f"and > 0, got {_join(factors)}"
            )


def _join(numbers: tuple[float, ...]) -> str:
    return " ".join(map(str, numbers)) or "none"
