"""Mixing rules: one file per family."""

from fedasync_jax.mixing.area import area
from fedasync_jax.mixing.asyncfeded import asyncfeded
from fedasync_jax.mixing.averaged import averaged
from fedasync_jax.mixing.ca2fl import ca2fl
from fedasync_jax.mixing.cutoff import cutoff
from fedasync_jax.mixing.delay_adaptive import delay_adaptive
from fedasync_jax.mixing.delta import delta
from fedasync_jax.mixing.fadas import fadas
from fedasync_jax.mixing.fedasync import fedasync
from fedasync_jax.mixing.fedbuff import fedbuff
from fedasync_jax.mixing.norm_bound import bound_update
from fedasync_jax.mixing.precomputed import make_weights, weighted
from fedasync_jax.mixing.rates import AlphaSchedule
from fedasync_jax.mixing.rounds import RoundState, average_rounds
from fedasync_jax.mixing.rules import RULES
from fedasync_jax.mixing.server import server, server_optimizer
from fedasync_jax.mixing.tethered import tethered
from fedasync_jax.mixing.trimmed import trimmed

__all__ = [
    "RULES",
    "AlphaSchedule",
    "RoundState",
    "area",
    "asyncfeded",
    "average_rounds",
    "averaged",
    "bound_update",
    "ca2fl",
    "cutoff",
    "delay_adaptive",
    "delta",
    "fadas",
    "fedasync",
    "fedbuff",
    "make_weights",
    "server",
    "server_optimizer",
    "tethered",
    "trimmed",
    "weighted",
]
