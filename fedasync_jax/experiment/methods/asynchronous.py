"""Asynchronous methods: FedAsync, and any other registered mixing rule."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import optax

from fedasync_jax import mixing
from fedasync_jax.base import Mixer, StalenessFn
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.records import Method
from fedasync_jax.mixing.precomputed import scale_weights, weigh_staleness
from fedasync_jax.mixing.rules import RULES
from fedasync_jax.mixing.settings import MixingSettings
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.parts.registry import Setting

_LABEL = "FedAsync"


class FedAsyncRule(NamedTuple):
    """How FedAsync mixes, wherever it runs.

    Attributes:
      name: as it is shown.
      alpha: of an arrival that is not stale, or a schedule of it.
      staleness_fn: s(d).
    """

    name: str
    alpha: float | mixing.AlphaSchedule
    staleness_fn: StalenessFn

    @property
    def mixer(self) -> Mixer:
        """The Updater, for arrivals of any staleness."""
        return mixing.fedasync(self.alpha, self.staleness_fn)


def make_fedasync(staleness: str, context: Context) -> Method:
    """Return FedAsync with the staleness function of a name.

    The schedule is known, so the weights are, too; as mere numbers, they let methods
    share a compiled program.
    """
    rule, trace = make_rule(context.mixing, staleness), context.trace
    s = weigh_staleness(rule.staleness_fn, trace.staleness)
    weights = scale_weights(rule.alpha, s)
    return Method(
        name=rule.name,
        fleet=context.fleet,
        trace=trace,
        staleness=trace.staleness,
        local_update=make_worker(
            context.worker, context.workload, rho=context.worker.proximal_weight
        ),
        mixer=mixing.weighted(weights),
        eval_every=context.eval_every,
        is_async=True,
        expected_alpha=weights,
        staleness_weights=s,
    )


def make_rule_method(rule: str, staleness: str | None, context: Context) -> Method:
    """Return the method of a rule.

    Args:
      rule: one of ``RULES``.
      staleness: name of the staleness function, of a rule that has one.
      context: what else it is made from.
    """
    values, trace = context.mixing.of_choices, context.trace
    name = _describe_rule(rule, values)
    offered: dict[str, Any] = {"alpha": make_alpha(context.mixing)}
    if staleness is not None:
        offered["staleness_fn"] = STALENESS_FNS.make(staleness, values)
        name = describe(f"{name} {staleness}", staleness, values)
    return Method(
        name=name,
        fleet=context.fleet,
        trace=trace,
        staleness=trace.staleness,
        local_update=make_worker(
            context.worker, context.workload, rho=context.worker.proximal_weight
        ),
        mixer=RULES.make(rule, values, **offered),
        eval_every=context.eval_every,
        is_async=True,
    )


def make_rule(settings: MixingSettings, staleness: str) -> FedAsyncRule:
    """Return what FedAsync mixes by.

    Args:
      settings: of the Updater.
      staleness: name of the staleness function.
    """
    staleness_fn = STALENESS_FNS.make(staleness, settings.of_choices)
    name = describe(f"{_LABEL} {staleness}", staleness, settings.of_choices)
    return FedAsyncRule(name, make_alpha(settings), staleness_fn)


def make_alpha(settings: MixingSettings) -> float | mixing.AlphaSchedule:
    """Return alpha, or its schedule if it drops."""
    if settings.alpha_drop_at is None:
        return settings.alpha
    drops = {settings.alpha_drop_at: settings.alpha_drop}
    return optax.piecewise_constant_schedule(settings.alpha, drops)


def describe(label: str, staleness: str, values: Mapping[str, Any]) -> str:
    """Return a label with the numbers of its staleness function behind it."""
    return label + _show_own(STALENESS_FNS.settings(), staleness, values)


def _describe_rule(rule: str, values: Mapping[str, Any]) -> str:
    return rule + _show_own(RULES.settings(), rule, values)


def _show_own(
    declared: Mapping[str, Setting], part: str, values: Mapping[str, Any]
) -> str:
    """Return the settings of a part in parentheses, as far as they are numbers."""
    own = [values[name] for name, setting in declared.items() if part in setting.parts]
    numbers = [f"{value:g}" for value in own if isinstance(value, int | float)]
    return f"({', '.join(numbers)})" if numbers else ""
