"""Mixing rules by name.

A new rule is a factory of a ``Mixer``, in a file of its own, and an entry in ``RULES``.
Its settings are called after both, such as ``delta_step``. Of what is offered it gets
what it names: ``alpha``, ``staleness_fn``, ``num_clients`` and ``arrivals`` (see
``base.Arrivals``).
"""

import inspect

from fedasync_jax.base import Mixer
from fedasync_jax.mixing.area import area
from fedasync_jax.mixing.asyncfeded import asyncfeded
from fedasync_jax.mixing.ca2fl import ca2fl
from fedasync_jax.mixing.cutoff import cutoff
from fedasync_jax.mixing.delay_adaptive import delay_adaptive
from fedasync_jax.mixing.delta import delta
from fedasync_jax.mixing.fadas import fadas
from fedasync_jax.mixing.fedasync import fedasync
from fedasync_jax.mixing.fedbuff import fedbuff
from fedasync_jax.mixing.server import server_optimizer
from fedasync_jax.mixing.tethered import tethered
from fedasync_jax.parts.registry import Registry

RULES: Registry[Mixer] = Registry("rule", prefix="{name}_")
RULES.register("fedasync", fedasync)
RULES.register("delta", delta)
RULES.register("fedbuff", fedbuff)
RULES.register("delay-adaptive", delay_adaptive)
RULES.register("cutoff", cutoff)
RULES.register("asyncfeded", asyncfeded)
RULES.register("server", server_optimizer)
RULES.register("fadas", fadas)
RULES.register("tethered", tethered)
RULES.register("ca2fl", ca2fl)
RULES.register("area", area)


def reads_staleness(rule: str) -> bool:
    """Return whether a rule is made for a staleness function."""
    return "staleness_fn" in inspect.signature(RULES.find(rule)).parameters


def needs_staleness(rule: str) -> bool:
    """Return whether a rule cannot be made without a staleness function."""
    named = inspect.signature(RULES.find(rule)).parameters
    default = named["staleness_fn"].default if "staleness_fn" in named else None
    return default is inspect.Parameter.empty
