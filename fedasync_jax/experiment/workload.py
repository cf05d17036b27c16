"""From settings to a workload: data and their owners, a model, and how it is judged."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedasync_jax import data, models
from fedasync_jax.base import Array, ClientData, Model, Variables
from fedasync_jax.experiment.checks import TEXTS
from fedasync_jax.experiment.problem import (
    Problem,
    load_images,
    make_classification,
    make_language_modelling,
)
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.schedule.local_steps import Steps, TimeBudget
from fedasync_jax.worker.local_update import steps_per_task

# Steps that are written out at most: more take long to compile.
_MAX_UNROLLED = 20


class Workload(NamedTuple):
    """What is learned from what.

    Attributes:
      model: what is trained.
      clients: train samples and their owners, on the device.
      counts: int [C], samples of every client.
      label_counts: int [C, K], how many of each label; None of a text.
      evaluate: metrics of a model: ``loss`` and ``correct`` of the test set, and, if
        there is a validation set, its ``valid_loss``.
      steps: H, as the scheduler takes it.
      unroll: whether the local steps must be written out.
      large_tasks: see ``choose_batching``.
      is_text: whether the model is a language model, judged by its perplexity.
      description: the data in a few words.
    """

    model: Model
    clients: ClientData
    counts: np.ndarray
    label_counts: np.ndarray | None
    evaluate: Callable[[Variables], dict[str, Array]]
    steps: Steps
    unroll: bool
    large_tasks: bool
    is_text: bool
    description: str

    @property
    def num_bytes(self) -> int:
        """Size of a model as it travels: parameters and statistics."""
        shapes = jax.eval_shape(self.model.init, jax.random.key(0))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def make_workload(settings: Settings) -> Workload:
    """Read the data and make what is trained on them.

    Raises:
      ValueError: if the data are bad or do not fit the settings.
    """
    if settings.dataset in TEXTS:
        return _make_text(settings)
    dataset = load_images(settings)
    partition = _deal(settings, dataset)
    steps = _choose_steps(settings, partition.counts)
    convolution = _choose_convolution(settings, steps)
    problem = make_classification(settings, convolution)
    return _join(
        settings,
        problem,
        partition,
        label_counts=data.label_counts(partition, dataset.y_train, dataset.num_classes),
        unroll=convolution.unroll,
        large_tasks=convolution.unroll,
        is_text=False,
        description=_describe(settings, problem, "samples"),
    )


def _make_text(settings: Settings) -> Workload:
    problem = make_language_modelling(settings)
    partition, what = problem.partition, "windows"
    if partition is None:
        num_batches = len(problem.samples["x"])
        partition, what = (
            data.deal_batches(num_batches, settings.num_clients),
            "batches",
        )
    return _join(
        settings,
        problem,
        partition,
        label_counts=None,
        unroll=False,
        large_tasks=True,
        is_text=True,
        description=_describe(settings, problem, what),
    )


def _join(
    settings: Settings, problem: Problem, partition: data.Partition, **others: Any
) -> Workload:
    """Return the workload of a problem whose samples are dealt to clients."""
    rows = np.zeros(len(problem.samples["x"]), bool)  # the samples stay where they are
    owners = jax.device_put(data.make_client_data(rows, partition))
    return Workload(
        model=problem.model,
        clients=owners._replace(arrays=problem.samples),
        counts=partition.counts,
        evaluate=problem.evaluate,
        steps=_choose_steps(settings, partition.counts),
        **others,
    )


def _deal(settings: Settings, dataset: data.Dataset) -> data.Partition:
    if settings.partition == "natural":
        if dataset.client_train is None:
            raise ValueError(
                f"partition natural needs an array client_train in "
                f"{settings.data_path}, got none"
            )
        return data.natural(dataset.client_train, num_clients=settings.num_clients)
    return data.make_partition(
        settings.partition,
        dataset.y_train,
        settings.num_clients,
        concentration=settings.concentration,
        shards_per_client=settings.shards_per_client,
        sigma=settings.size_sigma,
        exponent=settings.size_exponent,
        skew=settings.feature_skew,
        features=dataset.x_train,
        samples_per_client=settings.samples_per_client,
        rng=settings.make_rng("partition"),
    )


def _choose_steps(settings: Settings, counts: np.ndarray) -> Steps:
    if settings.epochs is not None:
        return steps_per_task(
            counts, batch_size=settings.batch_size, epochs=settings.epochs
        )
    if settings.max_steps is None:
        return settings.num_steps
    if settings.time_budget is None:
        return settings.num_steps, settings.max_steps
    return TimeBudget(settings.time_budget, settings.num_steps, settings.max_steps)


def _choose_convolution(settings: Settings, steps: Steps) -> models.Convolution:
    """Return the convolution; steps that are many or differ are not written out."""
    name, platform = settings.convolution, jax.default_backend()
    few_and_equal = (
        not isinstance(steps, TimeBudget)
        and np.min(steps) == np.max(steps) <= _MAX_UNROLLED
    )
    if name == "auto" and not (settings.model == "paper-cnn" and few_and_equal):
        name = "patches"
    chosen = models.choose_convolution(name, platform)
    convolves = settings.model in ("cnn", "paper-cnn")
    return chosen._replace(unroll=chosen.unroll and convolves)


def _describe(settings: Settings, problem: Problem, what: str) -> str:
    counts = len(problem.samples["x"]), problem.num_test
    return f"{settings.dataset}: {counts[0]} train and {counts[1]} test {what}"
