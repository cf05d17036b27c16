"""The methods that are compared: FedAsync with its staleness functions, and baselines.

Here the names in the settings become schedules, local updates and mixing rules.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import optax

from fedasync_jax import mixing
from fedasync_jax.base import LocalUpdate, Mixer, StalenessFn
from fedasync_jax.data import pool_clients
from fedasync_jax.experiment.build_fleet import make_fleet
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.experiment.workload import Workload
from fedasync_jax.fleet import Fleet, single_worker
from fedasync_jax.mixing import staleness
from fedasync_jax.schedule import sampled_staleness, schedulers, simulate
from fedasync_jax.schedule.trace import Trace, round_ends


class Method(NamedTuple):
    """One line of the comparison.

    Attributes:
      name: as it is shown.
      fleet: its devices.
      trace: its schedule.
      staleness: int32 [T], d of each arrival; zero for a synchronous method.
      local_update: its Worker.
      mixer: its Updater.
      staleness_fn: s(d) of FedAsync, None for a baseline.
      eval_every: versions between evaluations, or the versions themselves.
      gradients_per_step: gradients that a local step counts as; more than 1 for
        batches larger than those of the clients.
      counts_updates: whether its versions are client updates (not for SGD).
      has_clock: whether the times of the trace are simulated seconds.
    """

    name: str
    fleet: Fleet
    trace: Trace
    staleness: np.ndarray
    local_update: LocalUpdate
    mixer: Mixer
    staleness_fn: StalenessFn | None
    eval_every: int | np.ndarray
    gradients_per_step: float = 1.0
    counts_updates: bool = True
    has_clock: bool = True


class Rule(NamedTuple):
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


def make_methods(settings: Settings, workload: Workload) -> Iterator[Method]:
    """Yield the methods of the settings, in their order.

    All FedAsync methods share one trace; every baseline gets its number of gradients.

    Args:
      settings: names and numbers.
      workload: what is learned from what.
    """
    devices = make_fleet(settings)
    trace = _make_trace(settings, workload, devices)
    plain = make_worker(settings, workload)
    proximal = make_worker(settings, workload, rho=settings.proximal_weight)
    rounds = functools.partial(_make_rounds, settings, workload, devices)
    for name in settings.methods:
        match name:
            case "sgd":
                method = _make_sgd(settings, workload, devices, trace)
            case "fedavg":
                method = rounds("FedAvg", plain)
            case "fedprox":
                method = rounds("FedProx", proximal)
            case _:
                method = _make_fedasync(settings, name, devices, trace, proximal)
        bound = settings.max_update_norm
        if bound is not None and method.counts_updates:
            method = method._replace(mixer=mixing.bound_update(method.mixer, bound))
        # Sampled staleness has no clock that the baselines could be compared by.
        yield method._replace(has_clock=settings.schedule != "sampled")


def _make_fedasync(
    settings: Settings,
    name: str,
    devices: Fleet,
    trace: Trace,
    local_update: LocalUpdate,
) -> Method:
    rule = make_rule(settings, name)
    # The schedule is known, so the weights are, too; as mere numbers, they let methods
    # share a compiled program.
    weights = mixing.make_weights(rule.alpha, rule.staleness_fn, trace.staleness)
    return Method(
        name=rule.name,
        fleet=devices,
        trace=trace,
        staleness=trace.staleness,
        local_update=local_update,
        mixer=mixing.weighted(weights),
        staleness_fn=rule.staleness_fn,
        eval_every=settings.eval_every,
    )


def make_rule(settings: Settings, name: str) -> Rule:
    """Return what a FedAsync method mixes by.

    Args:
      settings: names and numbers.
      name: such as ``fedasync-hinge``.
    """
    kind = name.removeprefix("fedasync-")
    arguments = {
        "constant": (),
        "polynomial": (settings.polynomial_a,),
        "hinge": (settings.hinge_a, settings.hinge_b),
        "exponential": (settings.exponential_a,),
        "linear": (settings.linear_a,),
    }[kind]
    staleness_fn = staleness.STALENESS_FNS[kind](*arguments)
    numbers = ", ".join(f"{number:g}" for number in arguments)
    return Rule(
        name=f"FedAsync {kind}({numbers})" if numbers else f"FedAsync {kind}",
        alpha=_make_alpha(settings),
        staleness_fn=staleness_fn,
    )


def _make_alpha(settings: Settings) -> float | mixing.AlphaSchedule:
    if settings.alpha_drop_at is None:
        return settings.alpha
    drops = {settings.alpha_drop_at: settings.alpha_drop}
    return optax.piecewise_constant_schedule(settings.alpha, drops)


def _make_rounds(
    settings: Settings,
    workload: Workload,
    devices: Fleet,
    name: str,
    local_update: LocalUpdate,
) -> Method:
    k = settings.clients_per_round
    scheduler = schedulers.Rounds(
        k, settings.over_selection, settings.round_deadline or math.inf
    )
    num_updates = max(1, settings.num_updates // k) * k
    trace = _simulate(settings, workload, devices, num_updates, scheduler)
    ends = round_ends(trace)  # only whole rounds are models
    every = -(-settings.eval_every // k)
    return Method(
        name=name,
        fleet=devices,
        trace=trace,
        staleness=np.zeros(trace.num_updates, np.int32),
        local_update=local_update,
        mixer=mixing.average_rounds(),
        staleness_fn=None,
        eval_every=ends[every - 1 :: every],
    )


def _make_sgd(
    settings: Settings, workload: Workload, devices: Fleet, asynchronous: Trace
) -> Method:
    """Return SGD on pooled data, cut into one task per evaluation.

    Steps that are written out make one task per client update instead.
    """
    batch_size = settings.sgd_batch_size or settings.batch_size
    gradients_per_step = batch_size / settings.batch_size
    total = asynchronous.num_steps.sum() / gradients_per_step
    updates_per_task = 1 if workload.unroll else settings.eval_every
    num_tasks = max(1, settings.num_updates // updates_per_task)
    steps = max(1, round(total / num_tasks))
    num_tasks = max(1, round(total / steps))
    worker = single_worker(devices)
    trace = simulate(
        worker,
        num_tasks,
        scheduler=schedulers.Rounds(1),
        num_steps=steps,
        rng=settings.make_rng("schedule"),
    )
    pooled = pool_clients(
        workload.clients,
        num_tasks,
        steps * batch_size,
        replacement=settings.sampling == "replacement",
        rng=settings.make_rng("passes"),
    )
    as_sgd = dataclasses.replace(
        settings,
        batch_size=batch_size,
        step_size=settings.sgd_step_size or settings.step_size,
        sampling="epochs",
    )
    return Method(
        name="SGD",
        fleet=worker,
        trace=dataclasses.replace(trace, client=np.arange(num_tasks, dtype=np.int32)),
        staleness=np.zeros(num_tasks, np.int32),
        local_update=make_worker(
            as_sgd, workload._replace(clients=pooled, steps=steps)
        ),
        mixer=mixing.average_rounds(),
        staleness_fn=None,
        eval_every=max(
            1, round(num_tasks * settings.eval_every / settings.num_updates)
        ),
        gradients_per_step=gradients_per_step,
        counts_updates=False,
    )


def _simulate(
    settings: Settings,
    workload: Workload,
    devices: Fleet,
    num_updates: int,
    scheduler: schedulers.Scheduler,
) -> Trace:
    return simulate(
        devices,
        num_updates,
        scheduler=scheduler,
        num_steps=workload.steps,
        num_bytes=workload.num_bytes,
        weights=workload.counts if settings.client_choice == "data-size" else None,
        max_tasks=settings.max_tasks_per_client,
        time_out=settings.time_out or math.inf,
        rng=settings.make_rng("schedule"),
    )


def _make_trace(settings: Settings, workload: Workload, devices: Fleet) -> Trace:
    if settings.schedule == "sampled":
        return sampled_staleness(
            settings.num_clients,
            settings.num_updates,
            max_staleness=settings.max_staleness,
            num_steps=workload.steps,
            rng=settings.make_rng("schedule"),
        )
    if settings.schedule == "periodic":
        scheduler = schedulers.Periodic(settings.interval, settings.num_triggered)
    else:
        scheduler = schedulers.Immediate(settings.concurrency)
    return _simulate(settings, workload, devices, settings.num_updates, scheduler)
