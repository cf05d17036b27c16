"""The network: how long a model travels to and from each client."""

import math
from typing import NamedTuple

import numpy as np

from fedasync_jax.fleet.delay_law import DelayLaw
from fedasync_jax.parts.convert import converted


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


@converted
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
    factors = np.ones(num_clients) if law is None else law(rng, num_clients)
    return Network(downlink / factors, uplink / factors, latency * factors)
