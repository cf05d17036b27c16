"""The fleet: devices, their laws and network, and when they can be had; NumPy only."""

from fedasync_jax.fleet import availability
from fedasync_jax.fleet.devices import (
    DELAY_LAWS,
    LOSE,
    PAUSE,
    DelayLaw,
    Fleet,
    Network,
    constant,
    exponential,
    log_normal,
    make_fleet,
    make_network,
    pareto,
    single_worker,
    tiers,
    uniform,
)

__all__ = [
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
