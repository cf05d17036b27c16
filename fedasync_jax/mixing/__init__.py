"""Mixing rules: one file per family."""

from collections.abc import Callable, Mapping

from fedasync_jax.base import Mixer
from fedasync_jax.mixing.fedasync import AlphaSchedule, fedasync

__all__ = ["MIXERS", "AlphaSchedule", "fedasync"]

MIXERS: Mapping[str, Callable[..., Mixer]] = {"fedasync": fedasync}
