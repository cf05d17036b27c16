"""The fleet: devices, their laws and network, and when they can be had; NumPy only."""

from fedasync_jax.fleet import availability
from fedasync_jax.fleet.availability import LOSE, PAUSE
from fedasync_jax.fleet.devices import (
    Fleet,
    make_fleet,
    single_worker,
)
from fedasync_jax.fleet.habits import AVAILABILITIES
from fedasync_jax.fleet.laws import (
    DELAY_LAWS,
    DelayLaw,
    constant,
    exponential,
    log_normal,
    pareto,
    tiers,
    uniform,
)
from fedasync_jax.fleet.network import Network, make_network

__all__ = [
    "AVAILABILITIES",
    "DELAY_LAWS",
    "LOSE",
    "PAUSE",
    "DelayLaw",
    "Fleet",
    "Network",
    "availability",
    "constant",
    "exponential",
    "log_normal",
    "make_fleet",
    "make_network",
    "pareto",
    "single_worker",
    "tiers",
    "uniform",
]
