"""Mixing rules by name.

A new rule is a factory of a ``Mixer``, in a file of its own, and an entry in ``RULES``.
Its settings are called after both, such as ``delta_step``. Of ``alpha`` and
``staleness_fn`` it gets what it names; one that names ``staleness_fn`` is run once for
every staleness function that is asked for, as ``fedasync-hinge``.
"""

import inspect

from fedasync_jax.base import Mixer
from fedasync_jax.mixing.fedasync import fedasync
from fedasync_jax.parts.registry import Registry

RULES: Registry[Mixer] = Registry("rule", prefix="{name}_")
RULES.register("fedasync", fedasync)


def reads_staleness(rule: str) -> bool:
    """Return whether a rule is made for a staleness function."""
    return "staleness_fn" in inspect.signature(RULES.find(rule)).parameters
