"""The methods that are compared: FedAsync with its staleness functions, and baselines.

Here the names in the settings become schedules, local updates and mixing rules.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import optax

from fedasync_jax import baselines, fleet, mixing, schedule, staleness
from fedasync_jax.base import ClientData, LocalUpdate, Mixer, Model, StalenessFn
from fedasync_jax.config import Settings
from fedasync_jax.data import pool_clients
from fedasync_jax.local import add_proximal, make_local_update, steps_per_task
from fedasync_jax.trace import Trace


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
    counts_updates: bool = True
    has_clock: bool = True


def make_methods(
    settings: Settings, model: Model, clients: ClientData
) -> Iterator[Method]:
    """Yield the methods of the settings, in their order.

    All FedAsync methods share one trace; every baseline gets its number of gradients.

    Args:
      settings: names and numbers.
      model: what is trained.
      clients: train samples and their owners.
    """
    devices = _make_fleet(settings)
    steps = _choose_steps(settings, clients)
    trace = _make_trace(settings, devices, steps)
    local = functools.partial(
        _make_local_update, settings, model, clients, max_steps=int(np.max(steps))
    )
    plain, proximal = local(rho=0.0), local(rho=settings.rho)
    for name in settings.methods:
        match name:
            case "sgd":
                method = _make_sgd(settings, model, clients, devices, trace)
            case "fedavg":
                method = _make_rounds(settings, "FedAvg", devices, steps, plain)
            case "fedprox":
                method = _make_rounds(settings, "FedProx", devices, steps, proximal)
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
        mixer=mixing.fedasync(settings.alpha, staleness_fn),
        staleness_fn=staleness_fn,
        eval_every=settings.eval_every,
    )


def _make_rounds(
    settings: Settings,
    name: str,
    devices: fleet.Fleet,
    steps: schedule.Steps,
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
    settings: Settings,
    model: Model,
    clients: ClientData,
    devices: fleet.Fleet,
    asynchronous: Trace,
) -> Method:
    """Return SGD on pooled data, cut into one task per evaluation."""
    num_tasks = max(1, settings.num_updates // settings.eval_every)
    steps = max(1, round(int(asynchronous.num_steps.sum()) / num_tasks))
    trace = schedule.simulate(
        baselines.single_worker(devices),
        num_tasks,
        scheduler=schedule.Rounds(1),
        num_steps=steps,
        rng=settings.make_rng("schedule"),
    )
    return Method(
        name="SGD",
        trace=trace,
        staleness=np.zeros(num_tasks, np.int32),
        local_update=_make_local_update(
            settings, model, pool_clients(clients), max_steps=steps, rho=0.0
        ),
        mixer=baselines.average_rounds(1),
        staleness_fn=None,
        eval_every=1,
        counts_updates=False,
    )


def _make_local_update(
    settings: Settings, model: Model, clients: ClientData, *, max_steps: int, rho: float
) -> LocalUpdate:
    descent = optax.sgd(settings.step_size, settings.momentum or None)
    return make_local_update(
        model,
        clients,
        optax.chain(add_proximal(rho), descent),
        batch_size=settings.batch_size,
        max_steps=max_steps,
        sampling=settings.sampling,
    )


def _choose_steps(settings: Settings, clients: ClientData) -> schedule.Steps:
    if settings.epochs is not None:
        return steps_per_task(
            clients.counts, batch_size=settings.batch_size, epochs=settings.epochs
        )
    if settings.max_steps is not None:
        return settings.num_steps, settings.max_steps
    return settings.num_steps


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
