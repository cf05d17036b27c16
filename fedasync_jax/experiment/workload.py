"""What is learned from what, in one pass: data, partition, model, judge."""

import jax
import numpy as np

from fedasync_jax import models
from fedasync_jax.data.clients import make_client_data
from fedasync_jax.data.partition.base import Partition
from fedasync_jax.data.partition.by_key import natural
from fedasync_jax.data.partition.registry import PARTITIONS
from fedasync_jax.data.partition.settings import NATURAL, PartitionSettings
from fedasync_jax.data.settings import DataSettings
from fedasync_jax.experiment.learned import (
    Learned,
    Source,
    learn,
    load_images,
    load_texts,
)
from fedasync_jax.experiment.records import Workload
from fedasync_jax.models.settings import ModelSettings
from fedasync_jax.schedule.local_steps import Steps, TimeBudget
from fedasync_jax.worker.sampling import steps_per_task
from fedasync_jax.worker.settings import WorkerSettings

# Steps that are written out at most: more take long to compile.
_MAX_UNROLLED = 20


def make_workload(
    data_settings: DataSettings,
    partition_settings: PartitionSettings,
    model_settings: ModelSettings,
    worker_settings: WorkerSettings,
    rng: np.random.Generator,
) -> Workload:
    """Read the data, deal them, and make what is trained on them and how it is judged.

    Args:
      data_settings: which data.
      partition_settings: whose each sample is.
      model_settings: which model.
      worker_settings: how many steps a task has.
      rng: source of the partition.

    Raises:
      ValueError: if the data are bad or do not fit the settings.
    """
    is_text = data_settings.is_text
    source = Source.of(data_settings, partition_settings)

    # Data and partition.
    if is_text:
        partition = load_texts(source).partition
    else:
        partition = _deal(partition_settings, source, rng)
    steps = _choose_steps(worker_settings, partition.counts)

    # Model and judge.
    convolution = None if is_text else _choose_convolution(model_settings, steps)
    learned = learn(source, model_settings, convolution)
    unroll = convolution is not None and convolution.unroll

    # The data lie on the device once; a client is a row of an index.
    rows = np.zeros(learned.num_train, bool)  # the samples stay where they are
    owners = jax.device_put(make_client_data(rows, partition))
    return Workload(
        model=learned.model,
        clients=owners._replace(arrays=learned.samples),
        counts=partition.counts,
        label_counts=learned.count_labels(partition),
        evaluate=learned.evaluate,
        steps=steps,
        unroll=unroll,
        large_tasks=unroll or is_text,
        is_text=is_text,
        description=f"{source.name}: {learned.description}",
        data_sha256=learned.data_sha256,
    )


def learn_images(
    data_settings: DataSettings,
    partition_settings: PartitionSettings,
    model_settings: ModelSettings,
    convolution: models.Convolution,
) -> Learned:
    """Return a classifier on its data, with a convolution of the caller's choice.

    Raises:
      ValueError: if the data are bad.
    """
    source = Source.of(data_settings, partition_settings)
    return learn(source, model_settings, convolution)


def _deal(
    settings: PartitionSettings, source: Source, rng: np.random.Generator
) -> Partition:
    dataset = load_images(source)
    if settings.partition == NATURAL:
        if dataset.client_train is None:
            raise ValueError(
                "partition natural needs an array client_train, or table_client for a "
                f"table, got none for {source.path}"
            )
        return natural(dataset.client_train, num_clients=settings.num_clients)
    return PARTITIONS.make(
        settings.partition,
        settings.of_choices,
        labels=dataset.y_train,
        num_samples=len(dataset.y_train),
        num_clients=settings.num_clients,
        features=dataset.x_train,
        rng=rng,
    )


def _choose_steps(settings: WorkerSettings, counts: np.ndarray) -> Steps:
    if settings.epochs is not None:
        return steps_per_task(
            counts, batch_size=settings.batch_size, epochs=settings.epochs
        )
    if settings.max_steps is None:
        return settings.num_steps
    if settings.time_budget is None:
        return settings.num_steps, settings.max_steps
    return TimeBudget(settings.time_budget, settings.num_steps, settings.max_steps)


def _choose_convolution(settings: ModelSettings, steps: Steps) -> models.Convolution:
    """Return the convolution; steps that are many or differ are not written out."""
    name, platform = settings.convolution, jax.default_backend()
    few_and_equal = (
        not isinstance(steps, TimeBudget)
        and np.min(steps) == np.max(steps) <= _MAX_UNROLLED
    )
    if name == "auto" and not (settings.model == "paper-cnn" and few_and_equal):
        name = "patches"
    chosen = models.choose_convolution(name, platform)
    return chosen._replace(unroll=chosen.unroll and settings.convolves)
