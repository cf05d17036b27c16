"""Mixing rules: one file per family."""

from fedasync_jax.mixing.fedasync import fedasync as fedasync

__all__ = ["fedasync"]
