"""The Worker of a real client: its own samples, its H, its compiled training.

Every task is trained from the very model that came with it, by the same local update
as in a simulation. A second task compiles nothing: within a process by jax itself,
in a new process by jax's cache on the disk.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import (
    Array,
    ClientData,
    LocalUpdate,
    Model,
    PyTree,
    Variables,
)
from fedasync_jax.data.clients import make_client_data
from fedasync_jax.data.partition.base import Partition
from fedasync_jax.experiment.build import build_workload
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.records import Workload
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.worker.sampling import steps_per_task


class Work(NamedTuple):
    """What a client does with a model.

    Attributes:
      train: ``train(variables, key) -> (variables, loss)``, compiled.
      like: a model's shapes and types, for what comes in.
      num_samples: n_i.
      num_steps: H.
      partition: which part of a known data set it has; -1 if none.
    """

    train: Callable[[Variables, Array], tuple[Variables, Array]]
    like: Variables
    num_samples: int
    num_steps: int
    partition: int = -1


def load_partition(settings: Settings, partition: int) -> Work:
    """Return the work of a client that has a part of a known data set.

    Args:
      settings: names and numbers; ``num_clients`` is the number of parts.
      partition: which part, from 0.

    Raises:
      ValueError: if the data are bad or there is no such part.
    """
    if not 0 <= partition < settings.partition.num_clients:
        raise ValueError(
            f"partition-id must be in 0..{settings.partition.num_clients - 1} "
            f"(num-partitions - 1), got {partition}"
        )
    workload = build_workload(settings)
    samples = _take_client(workload.clients, partition)
    work = make_work(settings, workload.model, samples, unroll=workload.unroll)
    return work._replace(partition=partition)


def make_work(
    settings: Settings, model: Model, samples: PyTree, *, unroll: bool = False
) -> Work:
    """Return the work of a client with samples of its own.

    Args:
      settings: names and numbers; H is ``num_steps``, or ``epochs`` over the samples.
      model: what is trained.
      samples: pytree of arrays [n_i, ...]; one sample is one row of every leaf.
      unroll: see ``make_local_update``.

    Raises:
      ValueError: if there is no sample, or the arrays differ in their number.
    """
    count = np.shape(jax.tree.leaves(samples)[0])[0]
    rows = Partition(np.arange(count), np.array([count]))
    counts = rows.counts
    steps = settings.worker.num_steps
    if settings.worker.epochs is not None:
        batch_size, epochs = settings.worker.batch_size, settings.worker.epochs
        steps = int(steps_per_task(counts, batch_size=batch_size, epochs=epochs)[0])
    workload = Workload(
        model=model,
        clients=make_client_data(samples, rows),
        counts=counts,
        label_counts=None,
        evaluate=lambda variables: {},
        steps=steps,
        unroll=unroll,
        large_tasks=False,
        is_text=False,
        description="",
    )
    worker = make_worker(settings.worker, workload, rho=settings.worker.proximal_weight)

    @jax.jit  # the samples are an argument: clients of one shape share a program
    def run(
        worker: LocalUpdate, variables: Variables, key: Array
    ) -> tuple[Variables, Array]:
        trained, info = worker(variables, jnp.int32(0), key, steps)
        return trained, info.loss

    shapes = jax.eval_shape(model.init, jax.random.key(0))
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return Work(functools.partial(run, worker), like, int(count), steps)


def task_key(settings: Settings, number: int) -> Array:
    """Return the random key of a task, the one that a simulation gives it."""
    return jax.random.fold_in(settings.make_key("tasks"), number)


def _take_client(data: ClientData, client: int) -> PyTree:
    """Return the samples of one client, on the host."""
    begin = int(data.offsets[client])
    rows = np.asarray(data.indices)[begin : begin + int(data.counts[client])]
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], data.arrays)
