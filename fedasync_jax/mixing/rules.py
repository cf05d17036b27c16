"""Mixing rules by name.

A new rule is a factory of a ``Mixer``, in a file of its own, and an entry in ``RULES``.
Its settings are called after both, such as ``delta_step``. Of what is offered it gets
what it names: ``alpha``, ``staleness_fn``, ``num_clients`` and ``arrivals`` (see
``base.Arrivals``).
"""

import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

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
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.mixing.tethered import tethered
from fedasync_jax.mixing.trimmed import trimmed
from fedasync_jax.parts.bounds import Bounds, one_of
from fedasync_jax.parts.registry import Registry, can_be_read

OFFERED = ("alpha", "staleness_fn", "num_clients", "arrivals")

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
RULES.register("trimmed", trimmed)


def needs_staleness(factory: Callable[..., Any]) -> bool:
    """Return whether a rule cannot be made without a staleness function."""
    named = inspect.signature(factory).parameters
    if "staleness_fn" not in named:
        return False
    return named["staleness_fn"].default is inspect.Parameter.empty


def list_settings(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return what may be set of a rule or a staleness function, by argument.

    That is every argument whose annotation says what is allowed or is the type of a
    number, word or truth value; ``alpha`` and, for ``staleness_fn``, ``staleness``.

    Returns:
      The annotations.
    """
    hints = typing.get_type_hints(factory, include_extras=True)
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        hint = hints.get(name, type(parameter.default))
        if name == "staleness_fn":
            found["staleness"] = Annotated[str, one_of(STALENESS_FNS)]
        elif name == "alpha":
            found["alpha"] = Annotated[float, Bounds(0, 1, open_low=True)]
        elif name not in OFFERED and can_be_read(hint):
            found[name] = hint
    return found
