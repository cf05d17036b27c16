"""Mixing rules: one file per family."""

from fedasync_jax.mixing.fedasync import AlphaSchedule, fedasync
from fedasync_jax.mixing.norm_bound import bound_update
from fedasync_jax.mixing.precomputed import make_weights, weighted
from fedasync_jax.mixing.rounds import RoundState, average_rounds
from fedasync_jax.mixing.rules import RULES

__all__ = [
    "RULES",
    "AlphaSchedule",
    "RoundState",
    "average_rounds",
    "bound_update",
    "fedasync",
    "make_weights",
    "weighted",
]
