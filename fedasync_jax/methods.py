"""The methods that are compared: FedAsync with its staleness functions, and baselines.

Here the names in the settings become schedules, local updates and mixing rules.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import optax

from fedasync_jax import baselines, fleet, mixing, schedule, staleness
from fedasync_jax.base import LocalUpdate, Mixer, StalenessFn
from fedasync_jax.config import Settings
from fedasync_jax.data import pool_clients
from fedasync_jax.local import add_proximal, make_local_update
from fedasync_jax.trace import Trace
from fedasync_jax.workload import Workload


class Method(NamedTuple):
    """One line of the comparison.

    Attributes:
      name: as it is shown.
      trace: its schedule.
      staleness: int32 [T], d of each arrival; zero for a synchronous method.
      local_update: its Worker.
      mixer: its Updater.
      staleness_fn: s(d) of FedAsync, None for a baseline.
      eval_every: versions between evaluations.
      gradients_per_step: gradients that a local step counts as; more than 1 for
        batches larger than those of the clients.
      counts_updates: whether its versions are client updates (not for SGD).
      has_clock: whether the times of the trace are simulated seconds.
    """

    name: str
    trace: Trace
    staleness: np.ndarray
    local_update: LocalUpdate
    mixer: Mixer
    staleness_fn: StalenessFn | None
    eval_every: int
    gradients_per_step: float = 1.0
    counts_updates: bool = True
    has_clock: bool = True


def make_methods(settings: Settings, workload: Workload) -> Iterator[Method]:
    """Yield the methods of the settings, in their order.

    All FedAsync methods share one trace; every baseline gets its number of gradients.

    Args:
      settings: names and numbers.
      workload: what is learned from what.
    """
    devices = _make_fleet(settings)
    trace = _make_trace(settings, devices, workload.steps)
    plain = make_worker(settings, workload)
    proximal = make_worker(settings, workload, rho=settings.proximal_weight)
    rounds = functools.partial(_make_rounds, settings, devices, workload.steps)
    for name in settings.methods:
        match name:
            case "sgd":
                method = _make_sgd(settings, workload, devices, trace)
            case "fedavg":
                method = rounds("FedAvg", plain)
            case "fedprox":
                method = rounds("FedProx", proximal)
            case _:
                method = _make_fedasync(settings, name, trace, proximal)
        # Sampled staleness has no clock that the baselines could be compared by.
        yield method._replace(has_clock=settings.schedule != "sampled")


def _make_fedasync(
    settings: Settings, name: str, trace: Trace, local_update: LocalUpdate
) -> Method:
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
    return Method(
        name=f"FedAsync {kind}({numbers})" if numbers else f"FedAsync {kind}",
        trace=trace,
        staleness=trace.staleness,
        local_update=local_update,
        mixer=mixing.fedasync(_make_alpha(settings), staleness_fn),
        staleness_fn=staleness_fn,
        eval_every=settings.eval_every,
    )


def _make_alpha(settings: Settings) -> float | mixing.AlphaSchedule:
    if settings.alpha_drop_at is None:
        return settings.alpha
    drops = {settings.alpha_drop_at: settings.alpha_drop}
    return optax.piecewise_constant_schedule(settings.alpha, drops)


def _make_rounds(
    settings: Settings,
    devices: fleet.Fleet,
    steps: schedule.Steps,
    name: str,
    local_update: LocalUpdate,
) -> Method:
    k = settings.clients_per_round
    trace = schedule.simulate(
        devices,
        max(1, settings.num_updates // k) * k,
        scheduler=schedule.Rounds(k),
        num_steps=steps,
        rng=settings.make_rng("schedule"),
    )
    return Method(
        name=name,
        trace=trace,
        staleness=np.zeros(trace.num_updates, np.int32),
        local_update=local_update,
        mixer=baselines.average_rounds(k),
        staleness_fn=None,
        eval_every=-(-settings.eval_every // k) * k,  # only whole rounds are models
    )


def _make_sgd(
    settings: Settings, workload: Workload, devices: fleet.Fleet, asynchronous: Trace
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
    trace = schedule.simulate(
        baselines.single_worker(devices),
        num_tasks,
        scheduler=schedule.Rounds(1),
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
        trace=dataclasses.replace(trace, client=np.arange(num_tasks, dtype=np.int32)),
        staleness=np.zeros(num_tasks, np.int32),
        local_update=make_worker(
            as_sgd, workload._replace(clients=pooled, steps=steps)
        ),
        mixer=baselines.average_rounds(1),
        staleness_fn=None,
        eval_every=max(
            1, round(num_tasks * settings.eval_every / settings.num_updates)
        ),
        gradients_per_step=gradients_per_step,
        counts_updates=False,
    )


def make_worker(
    settings: Settings, workload: Workload, *, rho: float = 0.0
) -> LocalUpdate:
    """Return the local update: clip, decay, proximal term, then the step of SGD.

    Args:
      settings: names and numbers.
      workload: what is learned from what.
      rho: weight of the proximal term.
    """
    chain = [
        add_proximal(rho),
        optax.sgd(settings.step_size, settings.momentum or None),
    ]
    if settings.weight_decay:
        chain.insert(0, optax.add_decayed_weights(settings.weight_decay))
    if settings.clip_norm is not None:
        chain.insert(0, optax.clip_by_global_norm(settings.clip_norm))
    return make_local_update(
        workload.model,
        workload.clients,
        optax.chain(*chain),
        batch_size=settings.batch_size,
        max_steps=int(np.max(workload.steps)),
        sampling=settings.sampling,
        unroll=workload.unroll,
    )


def _make_fleet(settings: Settings) -> fleet.Fleet:
    return fleet.make_fleet(
        settings.num_clients,
        rng=settings.make_rng("fleet"),
        client_law=_make_law(settings, "client"),
        task_law=_make_law(settings, "task"),
        seconds_per_step=settings.seconds_per_step,
    )


def _make_law(settings: Settings, of: str) -> fleet.DelayLaw:
    match getattr(settings, f"{of}_law"):
        case "uniform":
            return fleet.uniform(*getattr(settings, f"{of}_range"))
        case "log-normal":
            return fleet.log_normal(getattr(settings, f"{of}_sigma"))
        case name:
            return fleet.DELAY_LAWS[name]()


def _make_trace(
    settings: Settings, devices: fleet.Fleet, steps: schedule.Steps
) -> Trace:
    rng = settings.make_rng("schedule")
    if settings.schedule == "sampled":
        return schedule.sampled_staleness(
            settings.num_clients,
            settings.num_updates,
            max_staleness=settings.max_staleness,
            num_steps=steps,
            rng=rng,
        )
    if settings.schedule == "periodic":
        scheduler = schedule.Periodic(settings.interval, settings.num_triggered)
    else:
        scheduler = schedule.Immediate(settings.concurrency)
    return schedule.simulate(
        devices, settings.num_updates, scheduler=scheduler, num_steps=steps, rng=rng
    )
