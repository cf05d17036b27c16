"""The Worker of a real client: its own samples, its H, its compiled training.

Every task is trained from the very model that came with it, by the same local update
as in a simulation. A second task compiles nothing: within a process by jax itself,
in a new process by jax's cache on the disk. The clients of one node share a program.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
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


def load_partitions(settings: Settings, partitions: Sequence[int]) -> list[Work]:
    """Return the work of the clients of a node, which have parts of a known data set.

    Args:
      settings: names and numbers; ``num_clients`` is the number of parts.
      partitions: which parts, from 0.

    Raises:
      ValueError: if the data are bad or there is no such part.
    """
    highest = settings.partition.num_clients - 1
    for partition in partitions:
        if not 0 <= partition <= highest:
            raise ValueError(
                f"partition-id must be in 0..{highest} (num-partitions - 1), "
                f"got {partition}"
            )
    workload = build_workload(settings)
    samples = [_take_client(workload.clients, partition) for partition in partitions]
    works = make_works(settings, workload.model, samples, unroll=workload.unroll)
    pairs = zip(works, partitions, strict=True)
    return [work._replace(partition=partition) for work, partition in pairs]


def make_works(
    settings: Settings,
    model: Model,
    samples: Sequence[PyTree],
    *,
    unroll: bool = False,
) -> list[Work]:
    """Return the work of the clients of a node with samples of their own.

    Args:
      settings: names and numbers; H is ``num_steps``, or ``epochs`` over the samples.
      model: what is trained.
      samples: of each client, a pytree of arrays [n_i, ...]; one sample is one row of
        every leaf.
      unroll: see ``make_local_update``.

    Raises:
      ValueError: if there is no client or no sample, if the arrays of a client differ
        in their number, or those of two clients in names, shapes or types.
    """
    clients = _join_clients(samples)
    counts = np.asarray(clients.counts)
    steps = np.full(counts.shape, settings.worker.num_steps)
    if settings.worker.epochs is not None:
        batch_size, epochs = settings.worker.batch_size, settings.worker.epochs
        steps = steps_per_task(counts, batch_size=batch_size, epochs=epochs)
    # One number is part of the program, several are an argument of it.
    fixed = int(steps[0]) if (steps == steps[0]).all() else None
    workload = Workload(
        model=model,
        clients=clients,
        counts=counts,
        label_counts=None,
        evaluate=lambda variables: {},
        steps=steps if fixed is None else fixed,
        unroll=unroll,
        large_tasks=False,
        is_text=False,
        description="",
    )
    worker = make_worker(settings.worker, workload, rho=settings.worker.proximal_weight)

    @jax.jit  # the samples are an argument: clients of one shape share a program
    def run(
        worker: LocalUpdate,
        client: Array,
        num_steps: Array,
        variables: Variables,
        key: Array,
    ) -> tuple[Variables, Array]:
        asked = num_steps if fixed is None else fixed
        trained, info = worker(variables, client, key, asked)
        return trained, info.loss

    shapes = jax.eval_shape(model.init, jax.random.key(0))
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return [
        Work(
            functools.partial(run, worker, np.int32(client), np.int32(steps[client])),
            like,
            int(counts[client]),
            int(steps[client]),
        )
        for client in range(len(counts))
    ]


def choose_clients(
    settings: Settings, number: int, num_clients: int, num_asked: int
) -> list[int]:
    """Return which clients of a node train for a message, in the order of their tasks.

    They are drawn without replacement; the same message draws the same ones.

    Args:
      settings: for the seed.
      number: of the first task.
      num_clients: that the node has.
      num_asked: that may train.
    """
    drawn = settings.make_rng("clients", number).permutation(num_clients)
    return drawn[:num_asked].tolist()


def task_key(settings: Settings, number: int) -> Array:
    """Return the random key of a task, the one that a simulation gives it."""
    return jax.random.fold_in(settings.make_key("tasks"), number)


def _join_clients(samples: Sequence[PyTree]) -> ClientData:
    """Return the samples of the clients of a node as one record."""
    if not samples:
        raise ValueError("a node must have the samples of one client or more, got none")
    arrays, counts = [], []
    for own in samples:
        count = np.shape(jax.tree.leaves(own)[0])[0]
        everything = Partition(np.arange(count), np.array([count]))
        arrays.append(make_client_data(own, everything).arrays)
        counts.append(count)
    kinds = [
        {
            jax.tree_util.keystr(path): (leaf.shape[1:], str(leaf.dtype))
            for path, leaf in jax.tree_util.tree_leaves_with_path(own)
        }
        for own in arrays
    ]
    strange = next((kind for kind in kinds if kind != kinds[0]), kinds[0])
    if strange != kinds[0]:
        raise ValueError(
            "the clients of a node must have arrays of the same names, shapes and "
            f"types, got {kinds[0]} and {strange}"
        )
    joined = arrays[0]
    if len(arrays) > 1:
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *arrays)
    rows = Partition(np.arange(sum(counts)), np.array(counts))
    return make_client_data(joined, rows)


def _take_client(data: ClientData, client: int) -> PyTree:
    """Return the samples of one client, on the host."""
    begin = int(data.offsets[client])
    rows = np.asarray(data.indices)[begin : begin + int(data.counts[client])]
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], data.arrays)
