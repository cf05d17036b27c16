"""A model on its data, without federation: what experiments of a process share.

Experiments that agree on data and model get the very same objects, so that the data lie
on the device once, and runs of other seeds and numbers can share a compiled program
(see ``engine.many``). Only the last ones are kept.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fedasync_jax import models, tree
from fedasync_jax.base import Array, Model, PyTree, Variables
from fedasync_jax.data.dataset import Dataset, Texts
from fedasync_jax.data.hold_out import hold_out, hold_out_texts
from fedasync_jax.data.partition.base import Partition
from fedasync_jax.data.partition.settings import PartitionSettings
from fedasync_jax.data.partition.summary import label_counts
from fedasync_jax.data.registry import DATASETS, TEXTS, asks_for_clients
from fedasync_jax.data.settings import DataSettings
from fedasync_jax.models.settings import ModelSettings
from fedasync_jax.parts.settings import Values
from fedasync_jax.worker.evaluation import make_evaluate

_EVALUATED_TEXTS = 512  # at once, each of a window
_OF_VALID = ("loss", "correct")

Evaluate = Callable[[Variables], dict[str, Array]]


class Source(NamedTuple):
    """What decides the data; equal if the same data would be read again."""

    name: str
    path: Path | None
    of_choices: Values
    num_clients: int | None  # of what is made for its clients, such as texts
    valid_share: float
    stamp: object

    @classmethod
    def of(cls, settings: DataSettings, partition: PartitionSettings) -> "Source":
        """Return the source of the settings."""
        return cls(
            settings.dataset,
            settings.data_path,
            settings.of_choices,
            partition.num_clients if asks_for_clients(settings.dataset) else None,
            settings.valid_share,
            _stamp(settings.data_path),
        )


class Learned(NamedTuple):
    """A model on its data, without federation: what experiments share.

    Attributes:
      model: what is trained.
      samples: train samples on the device, a pytree of arrays [N, ...].
      evaluate: see ``Workload``.
      num_train: N.
      description: the numbers of samples in a few words.
      data_sha256: checksum of all samples, train and test.
      count_labels: labels of every client of a partition, see ``Workload``.
    """

    model: Model
    samples: PyTree
    evaluate: Evaluate
    num_train: int
    description: str
    data_sha256: str
    count_labels: Callable[[Partition], np.ndarray | None] = lambda partition: None


@functools.lru_cache(maxsize=1)
def load_images(source: Source) -> Dataset:
    """Load a data set of samples."""
    dataset = DATASETS.make(
        source.name,
        source.of_choices,
        path=source.path,
        num_clients=source.num_clients,
    )
    return hold_out(dataset, source.valid_share)


@functools.lru_cache(maxsize=1)
def load_texts(source: Source) -> Texts:
    """Load a text."""
    texts = TEXTS.make(
        source.name,
        source.of_choices,
        path=source.path,
        num_clients=source.num_clients,
    )
    return hold_out_texts(texts, source.valid_share)


@functools.lru_cache(maxsize=1)
def learn(
    source: Source,
    settings: ModelSettings,
    convolution: models.Convolution | None,
    model: Model | None = None,
) -> Learned:
    """Return the model on its data; a text has no convolution.

    Args:
      source: of the data.
      settings: of the model.
      convolution: with which it convolves.
      model: one's own, in the place of that of the settings.
    """
    if convolution is None:
        return _learn_texts(load_texts(source), settings, model)
    return learn_dataset(load_images(source), settings, convolution, model)


def learn_dataset(
    dataset: Dataset,
    settings: ModelSettings,
    convolution: models.Convolution,
    model: Model | None = None,
) -> Learned:
    """Return a model on samples that are at hand, see ``learn``."""
    model = model or models.make_classifier(
        settings.model,
        dataset.x_train.shape[1:],
        dataset.num_classes,
        conv_general_dilated=convolution.fn,
        settings=settings.of_choices,
    )
    if dataset.mean_image is not None:
        model = models.normalize_inputs(model, dataset.mean_image)
    evaluate = make_evaluate(model, {"x": dataset.x_test, "y": dataset.y_test})
    if dataset.x_valid is not None:
        held_out = {"x": dataset.x_valid, "y": dataset.y_valid}
        evaluate = _join(evaluate, make_evaluate(model, held_out))
    counts = len(dataset.x_train), len(dataset.x_test)
    return Learned(
        model=model,
        samples=jax.device_put({"x": dataset.x_train, "y": dataset.y_train}),
        evaluate=evaluate,
        num_train=counts[0],
        description=f"{counts[0]} train and {counts[1]} test samples{_note(dataset)}",
        data_sha256=tree.sha256(dataset[:4]),
        count_labels=lambda partition: label_counts(
            partition, dataset.y_train, dataset.num_classes
        ),
    )


def _note(dataset: Dataset) -> str:
    """Return what to say of labels that seem to be numbered from 1."""
    lowest = min(dataset.y_train.min(), dataset.y_test.min())
    if not lowest:
        return ""
    return (
        f"; note: the lowest label is {lowest}, so that of the {dataset.num_classes} "
        "classes the first has no sample"
    )


def _learn_texts(texts: Texts, settings: ModelSettings, model: Model | None) -> Learned:
    model = model or models.LANGUAGE_MODELS.make(
        settings.model,
        settings.of_choices,
        vocab_size=texts.vocab_size,
        columns=texts.columns,
    )
    pieces: dict[str, Any] = {"batch_size": _EVALUATED_TEXTS}
    if texts.columns is not None:  # the hidden state passes along axis 0
        pieces = {"batch_size": texts.columns, "axis": 2}
    evaluate = make_evaluate(model, dict(texts.test), **pieces)
    if texts.valid is not None:
        evaluate = _join(evaluate, make_evaluate(model, dict(texts.valid), **pieces))
    counts = len(texts.train["x"]), len(texts.test["x"])
    return Learned(
        model=model,
        samples=jax.device_put(dict(texts.train)),
        evaluate=evaluate,
        num_train=counts[0],
        description=f"{counts[0]} train and {counts[1]} test {texts.unit}",
        data_sha256=tree.sha256([dict(t) for t in texts[:3] if t is not None]),
    )


def _join(test_fn: Evaluate, valid_fn: Evaluate) -> Evaluate:
    def evaluate(variables: Variables) -> dict[str, Array]:
        of_valid = valid_fn(variables)
        named = {f"valid_{n}": of_valid[n] for n in _OF_VALID if n in of_valid}
        return {**test_fn(variables), **named}

    return evaluate


def _stamp(path: Path | None) -> object:
    """Return what changes when a file or the files of a folder do."""
    if path is None or not path.exists():
        return None
    files = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_mtime_ns) for file in files)
