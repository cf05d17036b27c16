"""From settings to an experiment: names and numbers become objects.

All methods of an experiment share data, model, initial values, fleet and number of
gradients, and run in the same engine (see ``running``).
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax

from fedasync_jax.base import Array, Variables
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.methods import Method, make_methods
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.experiment.workload import Workload, make_workload
from fedasync_jax.worker.local_update import steps_per_task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that is built before the first method runs.

    Attributes:
      settings: what it was built from.
      workload: what is learned from what.
      variables: x_0, the same for all methods, after the warm-up.
      methods: in the order of the settings.
    """

    settings: Settings
    workload: Workload
    variables: Variables
    methods: list[Method]


def build_experiment(settings: Settings) -> Experiment:
    """Build an experiment: read the data, make the schedules, warm up.

    Raises:
      ValueError: if the data are bad or do not fit the settings.
    """
    workload = make_workload(settings)
    methods = list(make_methods(settings, workload))
    variables = jax.jit(workload.model.init)(settings.make_key("init"))
    if settings.warmup_epochs:
        variables = _warm_up(settings, workload, variables)
    return Experiment(
        settings=settings, workload=workload, variables=variables, methods=methods
    )


def _warm_up(settings: Settings, workload: Workload, variables: Variables) -> Variables:
    """Return x_0 of the paper's protocol: some passes over the first clients' data."""
    counts = workload.counts[: settings.warmup_clients]
    steps = steps_per_task(counts, batch_size=settings.batch_size, epochs=1)
    worker = make_worker(
        dataclasses.replace(settings, step_size=settings.warmup_step_size),
        workload._replace(steps=steps),
    )
    key = settings.make_key("warmup")

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
