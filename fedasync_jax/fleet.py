"""The fleet: how long the devices take, in simulated seconds.

A law draws positive factors without unit. A fleet combines two of them: one drawn once
per client (some devices are slow for good) and one drawn per task (the same device is
not always equally fast). Clients are arrays, never objects.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np


class DelayLaw(Protocol):
    """Distribution of a positive factor."""

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return float64 [size], all > 0."""
        ...


class Fleet(NamedTuple):
    """Devices of C clients.

    Attributes:
      seconds_per_step: float64 [C], mean time of one local step, simulated seconds.
      task_law: factor on the duration of each task, drawn anew for every task.
    """

    seconds_per_step: np.ndarray
    task_law: DelayLaw

    @property
    def num_clients(self) -> int:
        """C, the number of clients."""
        return len(self.seconds_per_step)


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


DELAY_LAWS: Mapping[str, Callable[..., DelayLaw]] = {
    "constant": constant,
    "uniform": uniform,
    "exponential": exponential,
    "log-normal": log_normal,
}


def make_fleet(
    num_clients: int,
    *,
    rng: np.random.Generator,
    client_law: DelayLaw | None = None,
    task_law: DelayLaw | None = None,
    seconds_per_step: float = 1.0,
) -> Fleet:
    """Draw a fleet.

    A task of H steps on client i lasts
    ``seconds_per_step * client_factor_i * task_factor * H`` simulated seconds.

    Args:
      num_clients: C >= 1.
      rng: source of the client factors.
      client_law: law of the factor of a client; default constant.
      task_law: law of the factor of a task; default constant.
      seconds_per_step: simulated seconds of one local step at factor 1.

    Raises:
      ValueError: if ``num_clients`` < 1 or ``seconds_per_step`` is not positive.
    """
    if num_clients < 1:
        raise ValueError(f"num_clients must be >= 1, got {num_clients}")
    if not 0 < seconds_per_step < math.inf:
        raise ValueError(
            f"seconds_per_step must be finite and > 0, got {seconds_per_step}"
        )
    factors = (client_law or constant())(rng, num_clients)
    return Fleet(seconds_per_step * factors, task_law or constant())
