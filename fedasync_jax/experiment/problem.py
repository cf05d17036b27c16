"""What is learned: a data set, a model, and how the model is judged.

Experiments of a process that agree on it get the very same objects, so that the data
lie on the device once, and runs of other seeds and numbers can share a compiled program
(see ``many``). Only the last one is kept.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from fedasync_jax import data, models
from fedasync_jax.base import Array, Model, PyTree, Variables
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.worker.evaluation import make_evaluate

# Settings that decide what is learned; of text or images, some do not matter.
PROBLEM_FIELDS = (
    "dataset",
    "data_path",
    "model",
    "hidden",
    "cnn_channels",
    "cnn_hidden",
    "convolution",
    "dropout",
    "lstm_size",
    "lstm_layers",
    "lstm_biases",
    "text_columns",
    "bptt",
    "window",
    "num_clients",
)

_EVALUATED_TEXTS = 512  # at once, each of a window


class Problem(NamedTuple):
    """What is learned.

    Attributes:
      model: what is trained.
      samples: train samples on the device, a pytree of arrays [N, ...].
      evaluate: metrics of a model: ``loss`` and ``correct`` of the test set, and, if
        there is a validation set, its ``valid_loss``.
      num_test: samples of the test set.
      partition: whose each sample is, where the data say so; else None.
    """

    model: Model
    samples: PyTree
    evaluate: Callable[[Variables], dict[str, Array]]
    num_test: int
    partition: data.Partition | None = None


def load_images(settings: Settings) -> data.Dataset:
    """Load the data set of the settings.

    Raises:
      ValueError: if the data are bad.
    """
    path = settings.data_path
    return _load_images(settings.dataset, path, _stamp(path))


def make_classification(settings: Settings, convolution: models.Convolution) -> Problem:
    """Return a classifier of the data set of the settings."""
    path = settings.data_path
    return _make_classification(
        (settings.dataset, path, _stamp(path)),
        convolution,
        settings.model,
        (
            ("hidden", settings.hidden),
            ("channels", settings.cnn_channels),
            ("dense", settings.cnn_hidden),
            ("dropout", settings.dropout),
        ),
    )


def make_language_modelling(settings: Settings) -> Problem:
    """Return a language model of the text of the settings.

    Raises:
      ValueError: if the data are missing or bad.
    """
    path = settings.data_path
    lstm = _LSTM(
        settings.lstm_size,
        settings.lstm_layers,
        settings.dropout,
        settings.lstm_biases,
        settings.text_columns,
    )
    if settings.dataset == "shakespeare":
        path = _require_path(settings, "input.txt")
        size = settings.window, settings.num_clients
        return _make_shakespeare(path, _stamp(path), size, lstm)
    path = _require_path(settings, "train, valid and test .txt")
    return _make_wikitext2(path, _stamp(path), settings.bptt, lstm)


class _LSTM(NamedTuple):
    """Sizes of the language model."""

    size: int
    num_layers: int
    dropout: float
    num_biases: int
    columns: int


@functools.lru_cache(maxsize=1)
def _load_images(name: str, path: Path | None, stamp: object) -> data.Dataset:
    del stamp
    return data.load_dataset(name, path)


@functools.lru_cache(maxsize=1)
def _make_classification(
    source: tuple[str, Path | None, object],
    convolution: models.Convolution,
    name: str,
    sizes: tuple[tuple[str, Any], ...],
) -> Problem:
    dataset = _load_images(*source)
    model = models.make_classifier(
        name,
        dataset.x_train.shape[1:],
        dataset.num_classes,
        conv_general_dilated=convolution.fn,
        **dict(sizes),
    )
    if dataset.mean_image is not None:
        model = models.normalize_inputs(model, dataset.mean_image)
    test = {"x": dataset.x_test, "y": dataset.y_test}
    return Problem(
        model=model,
        samples=jax.device_put({"x": dataset.x_train, "y": dataset.y_train}),
        evaluate=make_evaluate(model, test),
        num_test=len(dataset.x_test),
    )


@functools.lru_cache(maxsize=1)
def _make_wikitext2(path: Path, stamp: object, bptt: int, lstm: _LSTM) -> Problem:
    del stamp
    text = data.load_wikitext2(path)
    train, valid, test = (
        dict(zip("xy", batches, strict=True))
        for batches in (
            data.batchify(words, batch_size=lstm.columns, bptt=bptt)
            for words in (text.train, text.valid, text.test)
        )
    )
    model = _make_lstm(lstm, len(text.vocabulary), carried=True)
    columns = {"batch_size": lstm.columns, "axis": 2}
    return Problem(
        model=model,
        samples=jax.device_put(train),
        evaluate=_join(
            make_evaluate(model, test, **columns),
            make_evaluate(model, valid, **columns),
        ),
        num_test=len(test["x"]),
    )


@functools.lru_cache(maxsize=1)
def _make_shakespeare(
    path: Path, stamp: object, size: tuple[int, int], lstm: _LSTM
) -> Problem:
    del stamp
    text = data.load_shakespeare(path, seq_len=size[0], num_speakers=size[1])
    model = _make_lstm(lstm, len(text.vocabulary), carried=False)
    test = {"x": text.x_test, "y": text.y_test}
    return Problem(
        model=model,
        samples=jax.device_put({"x": text.x_train, "y": text.y_train}),
        evaluate=make_evaluate(model, test, batch_size=_EVALUATED_TEXTS),
        num_test=len(test["x"]),
        partition=text.partition,
    )


def _make_lstm(lstm: _LSTM, vocab_size: int, *, carried: bool) -> Model:
    return models.make_lstm_lm(
        vocab_size,
        embed=lstm.size,
        hidden=lstm.size,
        num_layers=lstm.num_layers,
        dropout=lstm.dropout,
        num_biases=lstm.num_biases,
        batch_size=lstm.columns,
        carried=carried,
    )


def _join(test_fn: Callable, valid_fn: Callable) -> Callable:
    def evaluate(variables: Variables) -> dict[str, Array]:
        return {**test_fn(variables), "valid_loss": valid_fn(variables)["loss"]}

    return evaluate


def _require_path(settings: Settings, content: str) -> Path:
    if settings.data_path is None:
        raise ValueError(
            f"data_path (--data-path) must name a folder with {content} for data set "
            f"{settings.dataset}, got None"
        )
    return settings.data_path


def _stamp(path: Path | None) -> object:
    """Return what changes when a file or the files of a folder do."""
    if path is None or not path.exists():
        return None
    files = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_mtime_ns) for file in files)
