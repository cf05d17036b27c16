"""From settings to an experiment: names and numbers become objects.

All methods of an experiment share data, model, initial values, fleet and number of
gradients, and run in the same engine (see ``jobs.runner``).
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax

from fedasync_jax import mixing
from fedasync_jax.base import Array, Variables
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.client_judge import add_client_spread
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.memory import (
    check_run_memory,
    check_store_memory,
    check_task_memory,
)
from fedasync_jax.experiment.methods import make_method
from fedasync_jax.experiment.methods.asynchronous import make_own
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.own import NOTHING_OWN, OwnParts, check_own, fit_settings
from fedasync_jax.experiment.records import Method, Workload
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.experiment.workload import make_workload
from fedasync_jax.fleet.build import build_fleet
from fedasync_jax.parts.folder_names import check_folder_names
from fedasync_jax.schedule.build import build_trace
from fedasync_jax.schedule.local_steps import TaskWork
from fedasync_jax.worker.sampling import steps_per_task
from fedasync_jax.worker.settings import WorkerSettings


def build_experiment(settings: Settings, own: OwnParts = NOTHING_OWN) -> Experiment:
    """Build an experiment: read the data, make the schedules, warm up.

    Args:
      settings: names and numbers.
      own: objects in the place of what the settings would make.

    Raises:
      ValueError: if the data or the objects are bad or do not fit the settings, or all
        of it does not fit into memory.
    """
    check_own(own)
    settings = fit_settings(settings, own)

    # Data, partition, model, judge.
    check_run_memory(settings)
    workload = build_workload(settings, own)
    check_task_memory(settings, workload)

    # Fleet, schedules and rules: NumPy only.
    methods = list(make_methods(settings, workload, own))
    check_folder_names([method.name for method in methods])
    check_store_memory(settings, workload, methods)

    # x_0, the same for all methods.
    initialized = jax.jit(workload.model.init)(settings.make_key("init"))
    variables = initialized
    if settings.worker.warmup_epochs:
        key = settings.make_key("warmup")
        variables = _warm_up(settings.worker, workload, variables, key)
    if settings.run.evaluate_clients == "always":
        workload = add_client_spread(workload, variables)
    return Experiment(
        settings=settings,
        workload=workload,
        initialized=initialized,
        variables=variables,
        methods=methods,
    )


def build_workload(settings: Settings, own: OwnParts = NOTHING_OWN) -> Workload:
    """Read the data and make what is trained on them, see ``make_workload``."""
    return make_workload(
        settings.data,
        settings.partition,
        settings.model,
        settings.worker,
        settings.make_rng("partition"),
        own,
    )


def make_methods(
    settings: Settings, workload: Workload, own: OwnParts = NOTHING_OWN
) -> Iterator[Method]:
    """Yield the methods of the settings, in their order.

    All FedAsync methods share one trace; every baseline gets its number of gradients.

    Args:
      settings: names and numbers.
      workload: what is learned from what.
      own: devices in the place of those of the settings, and rules beside the names.
    """
    fleet = own.fleet or build_fleet(
        settings.fleet, settings.partition.num_clients, settings.make_rng
    )
    work = TaskWork(workload.steps, workload.num_bytes, workload.counts)
    num_updates = settings.run.num_updates
    rng = settings.make_rng("schedule")
    context = Context(
        workload=workload,
        fleet=fleet,
        trace=build_trace(settings.schedule, fleet, work, num_updates, rng),
        work=work,
        num_updates=num_updates,
        eval_every=settings.run.eval_every,
        worker=settings.worker,
        mixing=settings.mixing,
        schedule=settings.schedule,
        make_rng=settings.make_rng,
    )
    bound = settings.mixing.max_update_norm
    for one in own.methods or settings.run.methods:
        is_name = isinstance(one, str)
        method = make_method(one, context) if is_name else make_own(*one, context)
        if bound is not None and method.counts_updates:
            method = method._replace(mixer=mixing.bound_update(method.mixer, bound))
        # Sampled staleness has no clock that the baselines could be compared by.
        yield method._replace(has_clock=settings.schedule.has_clock)


def _warm_up(
    settings: WorkerSettings, workload: Workload, variables: Variables, key: Array
) -> Variables:
    """Return x_0 of the paper's protocol: some passes over the first clients' data."""
    counts = workload.counts[: settings.warmup_clients]
    steps = steps_per_task(counts, batch_size=settings.batch_size, epochs=1)
    worker = make_worker(
        settings.replace(step_size=settings.warmup_step_size),
        workload._replace(steps=steps),
    )

    passes = itertools.product(range(settings.warmup_epochs), enumerate(steps))
    for task, (_, (client, num_steps)) in enumerate(passes):
        task_key = jax.random.fold_in(key, task)
        variables = _train(worker, variables, client, task_key, int(num_steps))
    return variables


@functools.partial(jax.jit, static_argnames="num_steps")
def _train(
    worker: Any, variables: Variables, client: int, key: Array, num_steps: int
) -> Variables:
    return worker(variables, client, key, num_steps)[0]
