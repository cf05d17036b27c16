"""Asynchronous methods: FedAsync, and any other registered mixing rule."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from fedasync_jax import mixing
from fedasync_jax.base import Arrivals, Mixer, StalenessFn, check_schedule
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.method_names import (
    AsyncMethod,
    find_factory,
    name_settings,
    parse_method,
)
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.records import Method
from fedasync_jax.mixing.rates import weigh_staleness
from fedasync_jax.mixing.rules import RULES
from fedasync_jax.mixing.settings import MixingSettings
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.parts.registry import Setting

_LABEL = "FedAsync"


class OnlineRule(NamedTuple):
    """A rule that mixes arrivals as they come, of whose schedule nothing is known.

    Attributes:
      name: as it is shown.
      mixer: the Updater.
    """

    name: str
    mixer: Mixer


def make_async(line: str, context: Context) -> Method:
    """Return the method of a rule.

    The schedule is known, so weights that follow from it are, too; as mere numbers,
    they let methods share a compiled program.

    Args:
      line: its name, with settings or without, see ``parse_method``.
      context: what else it is made from.

    Raises:
      ValueError: if its settings do not fit the schedule or the model.
    """
    _, method, given = parse_method(line)
    assert method is not None  # it is no baseline
    settings = _set(context.mixing, method, given)
    staleness_fn = None
    if method.staleness is not None:
        staleness_fn = STALENESS_FNS.make(method.staleness, settings.of_choices)

    # The rule.
    make = functools.partial(
        _make_mixer,
        method,
        given,
        settings,
        staleness_fn,
        num_clients=context.fleet.num_clients,
    )
    mixer = make(_gather(context, 1))
    arrivals = _gather(context, mixer.versions_every)
    if mixer.versions_every > 1:
        mixer = make(arrivals)
    if "average" in given:
        mixer = mixing.averaged(mixer, given["average"])
    name = line if given else _describe(method, settings)
    return _complete(name, mixer, arrivals, context, staleness_fn)


def make_own(name: str, mixer: Mixer, context: Context) -> Method:
    """Return the method of a rule that is no name but an object.

    Args:
      name: as it is shown.
      mixer: the rule.
      context: what else it is made from.

    Raises:
      ValueError: if the rule refuses the schedule or the model.
    """
    return _complete(name, mixer, _gather(context, mixer.versions_every), context)


def _complete(
    name: str,
    mixer: Mixer,
    arrivals: Arrivals,
    context: Context,
    staleness_fn: StalenessFn | None = None,
) -> Method:
    """Return the method of a rule, which is asked what it knows of its weights."""
    weights = expected = None
    if mixer.weights is not None and mixer.with_weights is not None:
        weights = mixer.weights(arrivals)
        expected = weights if mixer.shows_weights else None
        mixer = mixer.with_weights(weights)
    check_schedule(mixer.update, context.trace)
    shapes = jax.eval_shape(context.workload.model.init, jax.random.key(0))
    jax.eval_shape(mixer.init, shapes)  # refuses what takes too much memory
    return Method(
        name=name,
        fleet=context.fleet,
        trace=context.trace,
        staleness=arrivals.staleness,
        local_update=make_worker(
            context.worker, context.workload, rho=context.worker.proximal_weight
        ),
        mixer=mixer,
        eval_every=context.eval_every,
        is_async=True,
        expected_alpha=expected,
        staleness_weights=None
        if staleness_fn is None or weights is None
        else weigh_staleness(staleness_fn, arrivals.staleness),
    )


def _set(
    settings: MixingSettings, method: AsyncMethod, given: Mapping[str, Any]
) -> MixingSettings:
    """Return the settings with those of a line in the place of the flags'."""
    names = name_settings(method)
    own = {names[k]: value for k, value in given.items() if k in names}
    return settings.replace(**own)


def _make_mixer(
    method: AsyncMethod,
    given: Mapping[str, Any],
    settings: MixingSettings,
    staleness_fn: StalenessFn | None,
    arrivals: Arrivals,
    *,
    num_clients: int,
) -> Mixer:
    offered = {
        "alpha": make_alpha(settings),
        "num_clients": num_clients,
        "arrivals": arrivals,
    }
    return _offer(method, given, settings, staleness_fn, offered)


def _offer(
    method: AsyncMethod,
    given: Mapping[str, Any],
    settings: MixingSettings,
    staleness_fn: StalenessFn | None,
    offered: dict[str, Any],
) -> Mixer:
    if staleness_fn is not None:
        offered = {**offered, "staleness_fn": staleness_fn}
    if method.rule in RULES:
        return RULES.make(method.rule, settings.of_choices, **offered)
    factory = find_factory(method.rule)
    named = inspect.signature(factory).parameters
    mine = {**offered, **given, "alpha": offered["alpha"]}  # with its drop, if any
    return factory(**{k: value for k, value in mine.items() if k in named})


def _gather(context: Context, versions_every: int) -> Arrivals:
    """Return what is known of the arrivals, with their staleness in such versions."""
    trace = context.trace
    return Arrivals(
        client=trace.client,
        staleness=trace.count_staleness(versions_every),
        num_samples=np.asarray(context.workload.counts)[trace.client],
        arrival_time=trace.arrival_time,
        num_in_flight=trace.count_in_flight(),
    )


def _describe(method: AsyncMethod, settings: MixingSettings) -> str:
    """Return how a method without settings of its own is shown."""
    rule, staleness = method
    values = settings.of_choices
    if rule == "fedasync" and staleness is not None:
        return describe(f"{_LABEL} {staleness}", staleness, values)
    name = _describe_rule(rule, values)
    return describe(f"{name} {staleness}", staleness, values) if staleness else name


def make_online(line: str, settings: MixingSettings) -> OnlineRule:
    """Return the rule of a method where arrivals come as they like.

    Args:
      line: a method's, see ``parse_method``.
      settings: of the Updater.

    Raises:
      ValueError: if it is a baseline, or needs to know clients or schedule beforehand.
    """
    name, method, given = parse_method(line)
    if method is None:
        raise ValueError(f"method must be a mixing rule, got {name}, a baseline")
    needed = inspect.signature(find_factory(method.rule)).parameters
    for beforehand in ("num_clients", "arrivals"):
        if beforehand in needed:
            raise ValueError(
                f"method must be a rule that needs nothing of the run in advance, got "
                f"{name}, which needs {beforehand}"
            )
    settings = _set(settings, method, given)
    staleness_fn = None
    if method.staleness is not None:
        staleness_fn = STALENESS_FNS.make(method.staleness, settings.of_choices)
    offered = {"alpha": make_alpha(settings)}
    mixer = _offer(method, given, settings, staleness_fn, offered)
    if "average" in given:
        mixer = mixing.averaged(mixer, given["average"])
    return OnlineRule(line if given else _describe(method, settings), mixer)


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
