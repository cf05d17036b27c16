"""Single-thread SGD on the data of all clients."""

import dataclasses

import numpy as np

from fedasync_jax import mixing
from fedasync_jax.data.clients import pool_clients
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.records import Method
from fedasync_jax.fleet.devices import single_worker
from fedasync_jax.schedule.schedulers import Rounds
from fedasync_jax.schedule.simulation import simulate


def make_sgd(context: Context) -> Method:
    """Return SGD on pooled data, cut into one task per evaluation.

    Steps that are written out make one task per client update instead. It makes as many
    gradients as the asynchronous methods; a larger batch counts as several.
    """
    settings, workload = context.worker, context.workload
    batch_size = settings.sgd_batch_size or settings.batch_size
    gradients_per_step = batch_size / settings.batch_size
    total = context.trace.num_steps.sum() / gradients_per_step
    num_tasks, steps = _cut(context, total)

    # The machine: as fast as the median of the fleet, and nobody to wait for.
    worker = single_worker(context.fleet)
    trace = simulate(
        worker,
        num_tasks,
        scheduler=Rounds(1),
        num_steps=steps,
        rng=context.make_rng("schedule"),
    )
    # Its tasks: consecutive parts of passes over the data of all.
    pooled = pool_clients(
        workload.clients,
        num_tasks,
        steps * batch_size,
        replacement=settings.sampling == "replacement",
        rng=context.make_rng("passes"),
    )
    local_update = make_worker(
        settings.replace(
            batch_size=batch_size,
            step_size=settings.sgd_step_size or settings.step_size,
            sampling="epochs",
        ),
        workload._replace(clients=pooled, steps=steps),
    )
    evaluations_per_task = context.eval_every / context.num_updates
    return Method(
        name="SGD",
        fleet=worker,
        trace=dataclasses.replace(trace, client=np.arange(num_tasks, dtype=np.int32)),
        staleness=np.zeros(num_tasks, np.int32),
        local_update=local_update,
        mixer=mixing.average_rounds(),
        eval_every=max(1, round(num_tasks * evaluations_per_task)),
        gradients_per_step=gradients_per_step,
        counts_updates=False,
    )


def _cut(context: Context, total: float) -> tuple[int, int]:
    """Return the number of tasks and the steps of each, for ``total`` steps."""
    updates_per_task = 1 if context.workload.unroll else context.eval_every
    num_tasks = max(1, context.num_updates // updates_per_task)
    steps = max(1, round(total / num_tasks))
    return max(1, round(total / steps)), steps
