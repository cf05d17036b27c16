"""From settings to a workload: data and their owners, a model, and how it is judged."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedasync_jax import data, models
from fedasync_jax.base import Array, ClientData, Model, PyTree, Variables
from fedasync_jax.config import Settings
from fedasync_jax.evaluation import make_evaluate
from fedasync_jax.local import steps_per_task
from fedasync_jax.steps import Steps, TimeBudget

# Steps that are written out at most: more take long to compile.
_MAX_UNROLLED = 20
_EVALUATED_TEXTS = 512  # at once, each of a window


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
    make = {"wikitext2": _make_wikitext2, "shakespeare": _make_shakespeare}
    return make.get(settings.dataset, _make_images)(settings)


def _make_images(settings: Settings) -> Workload:
    dataset = data.load_dataset(settings.dataset, settings.data_path)
    partition = _deal(settings, dataset)
    steps = _choose_steps(settings, partition.counts)
    convolution = _choose_convolution(settings, steps)
    model = models.make_classifier(
        settings.model,
        dataset.x_train.shape[1:],
        dataset.num_classes,
        hidden=settings.hidden,
        channels=settings.cnn_channels,
        dense=settings.cnn_hidden,
        dropout=settings.dropout,
        conv_general_dilated=convolution.fn,
    )
    if dataset.mean_image is not None:
        model = models.normalize_inputs(model, dataset.mean_image)
    samples = {"x": dataset.x_train, "y": dataset.y_train}
    test = {"x": dataset.x_test, "y": dataset.y_test}
    return Workload(
        model=model,
        clients=jax.device_put(data.make_client_data(samples, partition)),
        counts=partition.counts,
        label_counts=data.label_counts(partition, dataset.y_train, dataset.num_classes),
        evaluate=make_evaluate(model, test),
        steps=steps,
        unroll=convolution.unroll,
        large_tasks=convolution.unroll,
        is_text=False,
        description=_describe(settings, samples, test, "samples"),
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


def _make_wikitext2(settings: Settings) -> Workload:
    text = data.load_wikitext2(_require_path(settings, "train, valid and test .txt"))
    train, valid, test = (
        dict(zip("xy", batches, strict=True))
        for batches in (
            data.batchify(words, batch_size=settings.text_columns, bptt=settings.bptt)
            for words in (text.train, text.valid, text.test)
        )
    )
    partition = data.deal_batches(len(train["x"]), settings.num_clients)
    model = _make_lstm(settings, len(text.vocabulary), carried=True)
    columns = {"batch_size": settings.text_columns, "axis": 2}
    return Workload(
        model=model,
        clients=jax.device_put(data.make_client_data(train, partition)),
        counts=partition.counts,
        label_counts=None,
        evaluate=_join(
            make_evaluate(model, test, **columns),
            make_evaluate(model, valid, **columns),
        ),
        steps=_choose_steps(settings, partition.counts),
        unroll=False,
        large_tasks=True,
        is_text=True,
        description=_describe(settings, train, test, "batches"),
    )


def _make_shakespeare(settings: Settings) -> Workload:
    text = data.load_shakespeare(
        _require_path(settings, "input.txt"),
        seq_len=settings.window,
        num_speakers=settings.num_clients,
    )
    train = {"x": text.x_train, "y": text.y_train}
    test = {"x": text.x_test, "y": text.y_test}
    model = _make_lstm(settings, len(text.vocabulary), carried=False)
    return Workload(
        model=model,
        clients=jax.device_put(data.make_client_data(train, text.partition)),
        counts=text.partition.counts,
        label_counts=None,
        evaluate=make_evaluate(model, test, batch_size=_EVALUATED_TEXTS),
        steps=_choose_steps(settings, text.partition.counts),
        unroll=False,
        large_tasks=True,
        is_text=True,
        description=_describe(settings, train, test, "windows"),
    )


def _make_lstm(settings: Settings, vocab_size: int, *, carried: bool) -> Model:
    return models.make_lstm_lm(
        vocab_size,
        embed=settings.lstm_size,
        hidden=settings.lstm_size,
        num_layers=settings.lstm_layers,
        dropout=settings.dropout,
        num_biases=settings.lstm_biases,
        batch_size=settings.text_columns,
        carried=carried,
    )


def _require_path(settings: Settings, content: str) -> Any:
    if settings.data_path is None:
        raise ValueError(
            f"data_path (--data-path) must name a folder with {content} for data set "
            f"{settings.dataset}, got None"
        )
    return settings.data_path


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


def _join(test_fn: Callable, valid_fn: Callable) -> Callable:
    def evaluate(variables: Variables) -> dict[str, Array]:
        return {**test_fn(variables), "valid_loss": valid_fn(variables)["loss"]}

    return evaluate


def _describe(settings: Settings, train: PyTree, test: PyTree, what: str) -> str:
    counts = len(train["x"]), len(test["x"])
    return f"{settings.dataset}: {counts[0]} train and {counts[1]} test {what}"
