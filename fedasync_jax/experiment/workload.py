"""What is learned from what, in one pass: data, partition, model, judge."""

from pathlib import Path

import jax
import numpy as np

from fedasync_jax import models, tree
from fedasync_jax.data.clients import make_client_data
from fedasync_jax.data.dataset import Dataset
from fedasync_jax.data.hold_out import hold_out
from fedasync_jax.data.partition.base import Partition
from fedasync_jax.data.partition.by_key import natural
from fedasync_jax.data.partition.registry import PARTITIONS
from fedasync_jax.data.partition.settings import NATURAL, PartitionSettings
from fedasync_jax.data.settings import DataSettings
from fedasync_jax.experiment.learned import (
    Learned,
    Source,
    learn,
    learn_dataset,
    load_images,
    load_texts,
)
from fedasync_jax.experiment.own import NOTHING_OWN, OwnParts, check_dataset, count_rows
from fedasync_jax.experiment.records import Workload
from fedasync_jax.models.settings import ModelSettings
from fedasync_jax.schedule.local_steps import Steps, TimeBudget
from fedasync_jax.worker.evaluation import make_evaluate
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
    own: OwnParts = NOTHING_OWN,
) -> Workload:
    """Read the data, deal them, and make what is trained on them and how it is judged.

    Args:
      data_settings: which data.
      partition_settings: how the samples are dealt to owners.
      model_settings: which model.
      worker_settings: how many steps a task has.
      rng: source of the partition.
      own: objects in the place of data and model.

    Raises:
      ValueError: if the data are bad or do not fit the settings.
    """
    _check_judge(data_settings, worker_settings, own)
    if own.clients is not None:
        return _take_over(own, worker_settings)
    data = None
    if own.data is not None:
        data = hold_out(check_dataset(own.data), data_settings.valid_share)
    is_text = data_settings.is_text and data is None
    source = Source.of(data_settings, partition_settings)

    # Data and partition.
    if is_text:
        partition = load_texts(source).partition
    else:
        dataset = data or load_images(source)
        partition = _deal(partition_settings, dataset, source.path, rng)
    steps = _choose_steps(worker_settings, partition.counts)

    # Model and judge.
    convolution = None if is_text else _choose_convolution(model_settings, steps)
    if data is None or convolution is None:
        learned = learn(source, model_settings, convolution, own.model)
    else:
        learned = learn_dataset(data, model_settings, convolution, own.model)
    unroll = convolution is not None and convolution.unroll
    if own.model is not None:
        unroll = own.unroll and _are_few_and_equal(steps)

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
        description=f"{'own data' if own.data else source.name}: {learned.description}",
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


def _check_judge(
    data_settings: DataSettings, settings: WorkerSettings, own: OwnParts
) -> None:
    """Raise ValueError if settings ask for validation samples that cannot be had."""
    share = data_settings.valid_share
    is_held = own.data is not None and own.data.x_valid is not None
    if share and (own.clients is not None or is_held):
        what = "data that have validation samples" if is_held else "clients of your own"
        raise ValueError(f"valid_share must be 0 for {what}, got {share}")
    goes_by_it = settings.plateau_factor is not None and settings.plateau_on != "test"
    is_own = own.clients is not None or own.data is not None
    if goes_by_it and is_own and not (share or is_held):
        what = "clients" if own.data is None else "data without validation samples"
        raise ValueError(
            f"plateau_on must be test for {what} of your own, got {settings.plateau_on}"
        )


def _take_over(own: OwnParts, settings: WorkerSettings) -> Workload:
    """Return what is learned of samples that have their owners."""
    assert own.clients is not None and own.model is not None  # see ``check_own``
    counts = np.asarray(own.clients.counts)
    steps = _choose_steps(settings, counts)
    unroll = own.unroll and _are_few_and_equal(steps)
    num_train, num_test = map(count_rows, (own.clients.arrays, own.test))
    return Workload(
        model=own.model,
        clients=jax.device_put(own.clients),
        counts=counts,
        label_counts=None,
        evaluate=make_evaluate(own.model, own.test),
        steps=steps,
        unroll=unroll,
        large_tasks=unroll,
        is_text=False,
        description=f"own data: {num_train} train and {num_test} test samples",
        data_sha256=tree.sha256((own.clients.arrays, own.test)),
    )


def _deal(
    settings: PartitionSettings,
    dataset: Dataset,
    path: Path | None,
    rng: np.random.Generator,
) -> Partition:
    if settings.partition == NATURAL:
        if dataset.client_train is None:
            raise ValueError(
                "partition natural needs an array client_train, or table_client for a "
                f"table, got none in {path or 'the data'}"
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
    is_paper_cnn = settings.model == "paper-cnn"
    if name == "auto" and not (is_paper_cnn and _are_few_and_equal(steps)):
        name = "patches"
    chosen = models.choose_convolution(name, platform)
    return chosen._replace(unroll=chosen.unroll and settings.convolves)


def _are_few_and_equal(steps: Steps) -> bool:
    if isinstance(steps, TimeBudget):
        return False
    return bool(np.min(steps) == np.max(steps) <= _MAX_UNROLLED)
