"""Single-thread SGD on the data of all clients."""

import dataclasses

import numpy as np

from fedasync_jax import mixing
from fedasync_jax.data.clients import pool_clients
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.records import Method
from fedasync_jax.fleet.devices import Fleet, single_worker
from fedasync_jax.schedule.schedulers import Rounds
from fedasync_jax.schedule.simulation import simulate
from fedasync_jax.schedule.trace import Trace, make_lost_tasks


def make_sgd(context: Context) -> Method:
    """Return SGD on pooled data, cut into one task per evaluation.

    Steps that are written out make one task per client update instead. It makes as many
    gradients as the asynchronous methods; a larger batch counts as several, and a step
    takes as many times longer. A longer run begins with the tasks of a shorter one.

    Every task shuffles its samples, and begins its momentum, anew. So results depend on
    ``eval_every``, unless steps are written out.
    """
    settings, workload = context.worker, context.workload
    batch_size = settings.sgd_batch_size or settings.batch_size
    gradients_per_step = batch_size / settings.batch_size
    steps = _cut(context, gradients_per_step)

    # The machine: as fast as the median of the fleet, and nobody to wait for.
    worker = single_worker(context.fleet)
    seconds = worker.seconds_per_step * gradients_per_step
    worker = worker._replace(seconds_per_step=seconds)
    trace = _simulate_alone(worker, steps, context.make_rng("schedule"))

    # Its tasks: consecutive parts of passes over the data of all.
    pooled = pool_clients(
        workload.clients,
        steps * batch_size,
        replacement=settings.sampling == "replacement",
        rng=context.make_rng("passes"),
    )
    step_size = settings.sgd_step_size or settings.step_size
    local_update = make_worker(
        settings.replace(
            batch_size=batch_size,
            step_size=step_size,
            sampling="epochs",
        ),
        workload._replace(clients=pooled, steps=steps),
    )
    tasks_per_evaluation = context.eval_every if workload.unroll else 1
    return Method(
        name="SGD",
        fleet=worker,
        trace=trace,
        staleness=np.zeros(trace.num_updates, np.int32),
        local_update=local_update,
        mixer=mixing.average_rounds(),
        eval_every=tasks_per_evaluation,
        gradients_per_step=gradients_per_step,
        step_size=step_size,
        counts_updates=False,
    )


def _cut(context: Context, gradients_per_step: float) -> np.ndarray:
    """Return the steps of every task, int [n]."""
    done = context.trace.num_steps.cumsum() / gradients_per_step
    if context.workload.unroll:  # all tasks are one program
        steps = max(1, round(done[0]))
        return np.full(max(1, round(done[-1] / steps)), steps)
    evaluated = np.arange(context.eval_every, len(done), context.eval_every) - 1
    ends = np.rint(done[[*evaluated, -1]]).astype(int)
    return np.diff(np.unique(np.maximum(ends, 1)), prepend=0)


def _simulate_alone(
    worker: Fleet, steps: np.ndarray, rng: np.random.Generator
) -> Trace:
    """Return the schedule of one worker whose t-th task has ``steps[t]`` steps."""
    is_even = bool((steps == steps[0]).all())
    trace = simulate(
        worker,
        len(steps),
        scheduler=Rounds(1),
        num_steps=int(steps[0]) if is_even else 1,
        rng=rng,
    )
    tasks = np.arange(len(steps), dtype=np.int32)
    if is_even:
        return dataclasses.replace(trace, client=tasks)
    end = np.cumsum((trace.arrival_time - trace.start_time) * steps)
    start = np.concatenate([[0.0], end[:-1]])
    return dataclasses.replace(
        trace,
        client=tasks,
        num_steps=steps.astype(np.int32),
        start_time=start,
        work_start_time=start,
        work_end_time=end,
        arrival_time=end,
        lost=make_lost_tasks(),  # the next task, at times that no longer are
    )
