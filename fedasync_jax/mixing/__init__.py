"""Mixing rules: one file per family."""

from collections.abc import Callable, Mapping

from fedasync_jax.base import Mixer
from fedasync_jax.mixing.fedasync import AlphaSchedule, fedasync
from fedasync_jax.mixing.norm_bound import bound_update
from fedasync_jax.mixing.precomputed import make_weights, weighted
from fedasync_jax.mixing.rounds import RoundState, average_rounds

__all__ = [
    "MIXERS",
    "AlphaSchedule",
    "RoundState",
    "average_rounds",
    "bound_update",
    "fedasync",
    "make_weights",
    "weighted",
]

MIXERS: Mapping[str, Callable[..., Mixer]] = {"fedasync": fedasync}
