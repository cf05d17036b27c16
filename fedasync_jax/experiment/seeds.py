"""Randomness of an experiment: one seed, a stream of its own for every purpose."""

import jax
import numpy as np

# The order is for ever: a generator is made from the place.
_PURPOSES = (
    "partition",
    "fleet",
    "schedule",
    "init",
    "tasks",
    "passes",
    "warmup",
    "network",
    "availability",
    "timeline",
    "clients",
)


def make_rng(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """Return the host's generator for a purpose; the same at every call.

    With ``numbers``, such as that of a task, one of several for the purpose.
    """
    return np.random.default_rng([seed, _PURPOSES.index(purpose), *numbers])


def make_key(seed: int, purpose: str) -> jax.Array:
    """Return the device's random key for a purpose; the same at every call."""
    return jax.random.fold_in(jax.random.key(seed), _PURPOSES.index(purpose))
