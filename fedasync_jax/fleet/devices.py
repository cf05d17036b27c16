"""The fleet: how long the devices take, and when they can be had.

A law draws positive factors without unit. A fleet combines two of them: one drawn once
per client (some devices are slow for good) and one drawn per task (the same device is
not always equally fast). Models travel over a network; devices come and go, and tasks
fail. Clients are arrays, never objects. Times are simulated seconds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from fedasync_jax.fleet.availability import Availability, always

PAUSE, LOSE = "pause", "lose"  # what happens to a task whose device goes away

_LONGEST = 1e12  # a factor at most, so that heavy tails stay finite


class DelayLaw(Protocol):
    """Distribution of a positive factor."""

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return float64 [size], all > 0."""
        ...


class Network(NamedTuple):
    """How models travel to and from C clients.

    Attributes:
      downlink: float64 [C], bytes per second to the client; inf: at once.
      uplink: float64 [C], bytes per second from the client; inf: at once.
      latency: float64 [C], seconds that each transfer takes besides.
    """

    downlink: np.ndarray
    uplink: np.ndarray
    latency: np.ndarray


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
        """Return how long a model travels to and from each client, float64 [C] each."""
        if self.network is None:
            return np.zeros(self.num_clients), np.zeros(self.num_clients)
        downlink, uplink, latency = self.network
        return latency + num_bytes / downlink, latency + num_bytes / uplink


def constant() -> DelayLaw:
    """Return the law whose factor is always 1."""
    return lambda rng, size: np.ones(size)


def uniform(low: float, high: float) -> DelayLaw:
    """Return the uniform law on [low, high).

    Raises:
      ValueError: unless 0 < ``low`` <= ``high`` < infinity.
    """
    if not 0 < low <= high < math.inf:
        raise ValueError(
            f"uniform: need 0 < low <= high < inf, got low={low}, high={high}"
        )
    return lambda rng, size: rng.uniform(low, high, size)


def exponential() -> DelayLaw:
    """Return the exponential law with mean 1: delays without memory."""
    return lambda rng, size: np.maximum(
        rng.standard_exponential(size), np.finfo(float).tiny
    )


def log_normal(sigma: float) -> DelayLaw:
    """Return the law exp(sigma Z), Z standard normal: median 1, a heavy right tail.

    Args:
      sigma: standard deviation of the logarithm, >= 0.

    Raises:
      ValueError: if ``sigma`` is negative or not finite.
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f"log_normal: sigma must be finite and >= 0, got {sigma}")
    return lambda rng, size: rng.lognormal(0.0, sigma, size)


def pareto(shape: float) -> DelayLaw:
    """Return the Pareto law with minimum 1: P(factor > x) = x^(-shape), x >= 1.

    Args:
      shape: > 0; the mean, shape / (shape - 1), is infinite for ``shape`` <= 1.

    Raises:
      ValueError: if ``shape`` is not positive and finite.
    """
    if not 0 < shape < math.inf:
        raise ValueError(f"pareto: shape must be finite and > 0, got {shape}")
    return lambda rng, size: np.minimum(1 + rng.pareto(shape, size), _LONGEST)


def tiers(shares: Sequence[float], factors: Sequence[float]) -> DelayLaw:
    """Return the law of classes of devices, such as: 20% are 8 times slower.

    >>> law = tiers([0.2], [8.0])
    >>> sorted(set(law(np.random.default_rng(0), 100).tolist()))
    [1.0, 8.0]

    Args:
      shares: probability of each class, > 0; the rest, up to 1, has factor 1.
      factors: > 0, one per class.

    Raises:
      ValueError: if the shares sum to more than 1, a number is not positive, or there
        are not as many factors as shares.
    """
    share, factor = np.array(shares, float), np.array(factors, float)
    if not (share > 0).all() or not share.sum() <= 1 + 1e-9:
        raise ValueError(
            f"tiers: shares must be > 0 and sum to 1 at most, got {tuple(shares)}"
        )
    if factor.shape != share.shape or not ((factor > 0) & (factor < np.inf)).all():
        raise ValueError(
            f"tiers: factors must be {len(share)} numbers (one per share), finite and "
            f"> 0, got {tuple(factors)}"
        )
    ends, values = np.cumsum(share), np.append(factor, 1.0)
    return lambda rng, size: values[np.searchsorted(ends, rng.random(size), "right")]


DELAY_LAWS: Mapping[str, Callable[..., DelayLaw]] = {
    "constant": constant,
    "uniform": uniform,
    "exponential": exponential,
    "log-normal": log_normal,
    "pareto": pareto,
    "tiers": tiers,
}


def make_network(
    num_clients: int,
    *,
    downlink: float,
    uplink: float,
    latency: float = 0.0,
    law: DelayLaw | None = None,
    rng: np.random.Generator,
) -> Network:
    """Draw a network: each client has bandwidths and a latency of its own.

    A slow connection is slow in all: with one factor per client, its transfers take
    ``factor * (latency + bytes / bandwidth)`` seconds.

    Args:
      num_clients: C >= 1.
      downlink: bytes per second to a client of factor 1, > 0; inf: at once.
      uplink: bytes per second from a client of factor 1, > 0; inf: at once.
      latency: seconds that each transfer of a client of factor 1 takes besides, >= 0.
      law: law of the factor of a client; default constant.
      rng: source of the factors.

    Raises:
      ValueError: if a number is out of range.
    """
    for name, bandwidth in (("downlink", downlink), ("uplink", uplink)):
        if not bandwidth > 0:
            raise ValueError(f"{name} must be > 0 bytes per second, got {bandwidth}")
    if not 0 <= latency < math.inf:
        raise ValueError(f"latency must be finite and >= 0 seconds, got {latency}")
    factors = (law or constant())(rng, num_clients)
    return Network(downlink / factors, uplink / factors, latency * factors)


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
