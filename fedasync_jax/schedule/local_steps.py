"""Local steps: how many a task makes, H.

Shapes: C clients.
Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1: H_min <= H <= H_max.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fedasync_jax.fleet.laws import DelayLaw

_BLOCK = 4096  # random numbers drawn at a time; a longer run repeats a shorter one


class TimeBudget(NamedTuple):
    """H of a task: as many local steps as the device can do in a given time.

    H = floor(seconds / seconds per step of this task), at least ``low``, at most
    ``high``: so fast devices do more, and slow ones hold up nobody.

    Attributes:
      seconds: simulated seconds of training, > 0.
      low: H_min >= 1.
      high: H_max >= H_min.
    """

    seconds: float
    low: int
    high: int


Steps = int | tuple[int, int] | np.ndarray | TimeBudget


class TaskWork(NamedTuple):
    """What the tasks are.

    Attributes:
      num_steps: H, as ``simulate`` takes it.
      num_bytes: size of a model as it travels.
      counts: int [C], samples of every client.
    """

    num_steps: Steps
    num_bytes: int
    counts: np.ndarray


def largest_steps(num_steps: Steps) -> int:
    """Return H_max."""
    most = num_steps.high if isinstance(num_steps, TimeBudget) else num_steps
    return int(np.max(most))


def stream(law: DelayLaw, rng: np.random.Generator) -> Iterator[float]:
    """Yield draws without end, which do not depend on how many are asked for."""
    blocks = (law(rng, _BLOCK).tolist() for _ in itertools.count())
    return itertools.chain.from_iterable(blocks)


def step_stream(
    num_steps: Steps, num_clients: int, rng: np.random.Generator
) -> Callable[[int, float], int]:
    """Return ``draw(client, seconds per step) -> H``.

    Raises:
      ValueError: if a number is out of range.
    """
    if isinstance(num_steps, TimeBudget):
        seconds, low, high = num_steps
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds must be finite and > 0, got {seconds}")
        _check_range(low, high)
        # What divides evenly does so, whatever the rounding: 0.6 / 0.2 is below 3.
        return lambda client, pace: min(max(int(seconds / pace + 1e-9), low), high)
    if isinstance(num_steps, tuple):
        low, high = num_steps
        _check_range(low, high)
        draws = stream(lambda rng, size: rng.integers(low, high + 1, size), rng)
        return lambda client, pace: int(next(draws))
    if np.shape(num_steps) not in ((), (num_clients,)):
        raise ValueError(
            f"num_steps must be int, (H_min, H_max) or int [{num_clients}], one number "
            f"per client, got shape {np.shape(num_steps)}"
        )
    smallest = int(np.min(num_steps))
    if smallest < 1:
        raise ValueError(f"num_steps must be >= 1, got {smallest}")
    if np.ndim(num_steps) == 0:
        same = int(num_steps)
        return lambda client, pace: same
    per_client = np.asarray(num_steps).tolist()
    return lambda client, pace: per_client[client]


def _check_range(low: int, high: int) -> None:
    if not 1 <= low <= high:
        raise ValueError(f"num_steps must be 1 <= H_min <= H_max, got ({low}, {high})")
