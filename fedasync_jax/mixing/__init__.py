"""Mixing rules: one file per family."""

from collections.abc import Callable, Mapping

from fedasync_jax.base import Mixer
from fedasync_jax.mixing.bound_update import bound_update
from fedasync_jax.mixing.fedasync import AlphaSchedule, fedasync

__all__ = ["MIXERS", "AlphaSchedule", "bound_update", "fedasync"]

MIXERS: Mapping[str, Callable[..., Mixer]] = {"fedasync": fedasync}
