"""Devices: how long they take for a task, and when they can be had.

A fleet combines two laws: a factor drawn once per client (some devices are slow for
good) and one drawn per task (the same device is not always equally fast). Models travel
over a network; devices come and go, and tasks fail. Clients are arrays, never objects.
Times are simulated seconds.
"""

import math
from typing import NamedTuple

import numpy as np

from fedasync_jax.fleet.availability import LOSE, PAUSE, Availability, always
from fedasync_jax.fleet.laws import DelayLaw, constant
from fedasync_jax.fleet.network import Network
from fedasync_jax.parts.convert import converted


class Fleet(NamedTuple):
    """Devices of C clients.

    Attributes:
      seconds_per_step: float64 [C], mean time of one local step.
      task_law: factor on the training time of each task, drawn anew for every task.
      network: None: transfers take no time.
      availability: when each device can take part.
      when_away: what happens to a task whose device goes away: "pause", it goes on when
        the device is back (a thousand times at most), or "lose", it ends there.
      failure_rate: probability of a task to fail by itself, at a moment that is
        uniform over its life, in [0, 1).
    """

    seconds_per_step: np.ndarray
    task_law: DelayLaw
    network: Network | None = None
    availability: Availability = always()
    when_away: str = PAUSE
    failure_rate: float = 0.0

    @property
    def num_clients(self) -> int:
        """C, the number of clients."""
        return len(self.seconds_per_step)

    def transfer_seconds(self, num_bytes: int) -> tuple[np.ndarray, np.ndarray]:
        """Return how long a model travels to and from each client, float64 [C] each.

        Raises:
          ValueError: if a network is so slow that the time is not finite.
        """
        if self.network is None:
            return np.zeros(self.num_clients), np.zeros(self.num_clients)
        downlink, uplink, latency = self.network
        with np.errstate(over="ignore"):
            there, back = num_bytes / downlink, num_bytes / uplink
        for name, rate, seconds in (
            ("downlink", downlink, there),
            ("uplink", uplink, back),
        ):
            if not np.isfinite(seconds).all():
                raise ValueError(
                    f"{name} must bring a model of {num_bytes:,} bytes to its place in "
                    f"finite time, got {np.min(rate):g} bytes per second"
                )
        return latency + there, latency + back


@converted
def make_fleet(
    num_clients: int,
    *,
    rng: np.random.Generator,
    client_law: DelayLaw | None = None,
    task_law: DelayLaw | None = None,
    seconds_per_step: float | np.ndarray = 1.0,
    network: Network | None = None,
    availability: Availability | None = None,
    when_away: str = PAUSE,
    failure_rate: float = 0.0,
) -> Fleet:
    """Draw a fleet.

    A task of H steps on client i trains for
    ``seconds_per_step * client_factor_i * task_factor * H`` simulated seconds.

    Args:
      num_clients: C >= 1.
      rng: source of the client factors.
      client_law: law of the factor of a client; default constant.
      task_law: law of the factor of a task; default constant.
      seconds_per_step: simulated seconds of one local step at factor 1, the same for
        all or float [C].
      network: see ``make_network``; default: transfers take no time.
      availability: default: always.
      when_away: "pause" or "lose", see ``Fleet``.
      failure_rate: probability of a task to fail, in [0, 1).

    Raises:
      ValueError: if a number is out of range or of another number of clients.
    """
    if num_clients < 1:
        raise ValueError(f"num_clients must be >= 1, got {num_clients}")
    seconds = np.asarray(seconds_per_step, float)
    wrong = ~((seconds > 0) & (seconds < math.inf))
    if wrong.any():
        raise ValueError(
            f"seconds_per_step must be finite and > 0, got {seconds[wrong].flat[0]}"
        )
    if when_away not in (PAUSE, LOSE):
        raise ValueError(f"when_away must be {PAUSE} or {LOSE}, got {when_away!r}")
    if not 0 <= failure_rate < 1:
        raise ValueError(f"failure_rate must be in [0, 1), got {failure_rate}")
    lengths = {"seconds_per_step": seconds.shape or (num_clients,)}
    if network is not None:
        lengths |= {f"network.{k}": v.shape for k, v in network._asdict().items()}
    for name, shape in lengths.items():
        if shape != (num_clients,):
            raise ValueError(f"{name} must have shape ({num_clients},), got {shape}")
    return Fleet(
        seconds * (client_law or constant())(rng, num_clients),
        task_law or constant(),
        network,
        always() if availability is None else availability,
        when_away,
        failure_rate,
    )


def single_worker(fleet: Fleet) -> Fleet:
    """Return a fleet of one worker, as fast as the median of ``fleet``.

    It is the machine on which single-thread SGD runs, so that its virtual time can be
    compared.
    """
    return Fleet(np.array([np.median(fleet.seconds_per_step)]), fleet.task_law)
