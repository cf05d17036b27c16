"""Any classification set of TensorFlow Datasets, by its name."""

import difflib
import functools
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedasync_jax.data.dataset import Dataset, to_labels
from fedasync_jax.data.tfds.fetch import Address, Wanted, fetch_prepared, server_of
from fedasync_jax.data.tfds.prepared import naming_folder, open_builder, read_split
from fedasync_jax.data.words import NUM_COLUMNS, count_words
from fedasync_jax.parts.bounds import show_value
from fedasync_jax.parts.memory import check_fits

PREFIX = "tfds:"

_NAME = re.compile(r"[a-z]\w*(/[\w.-]+)?")
_SPLIT_SEED = 1998  # fixed: every run is tested on the same samples


def load_tfds(name: str, path: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a classification set of images, texts or numbers; prepare it the first time.

    The data set must name an input and a class label (``supervised_keys``). Images, and
    other numbers in bytes, stay uint8 and come with the mean of the training samples,
    by which ``models.normalize_inputs`` brings them to scale. Texts become counts of
    their words, see ``count_words``. Other numbers become float32.

    The test samples are those of the split "test", else of "validation", else a fifth
    of the split "train", always the same.

    Args:
      name: such as "fashion_mnist"; "emnist/balanced" if it has several configs.
      path: the folder of TensorFlow Datasets, see ``fetch_prepared``.

    Raises:
      ValueError: in one line, if ``name`` is unknown, is no classification set of one
        shape of samples, does not fit into memory or is damaged; or as
        ``fetch_prepared``.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"dataset must be {PREFIX}NAME or {PREFIX}NAME/CONFIG of "
            f"tensorflow-datasets, got {show_value(PREFIX + name)}"
        )
    instead = (
        f"data_path (--data-path) must name a folder that holds {name}/<version> of "
        "tensorflow-datasets"
    )
    sources = functools.partial(_find_sources, name)
    folder = fetch_prepared(Wanted(name, f"{PREFIX}{name}", instead, sources), path)
    with naming_folder(folder):
        builder = open_builder(folder, name)
        columns = _find_columns(builder.info)
        splits = _choose_splits(builder.info.splits)
        counts = [builder.info.splits[split].num_examples for split in splits]
        # Held-out samples are copies.
        total = sum(counts) * (2 if len(splits) == 1 else 1)
        check_fits("dataset", f"{PREFIX}{name}", columns.num_bytes * total)
        read = [
            read_split(builder, split, columns.keys, columns.convert)
            for split in splits
        ]
        return _make_dataset(read, columns.num_classes)


class _Columns(NamedTuple):
    """Which parts of an example are read.

    Attributes:
      keys: of the sample and its label.
      convert: makes an array of the sample.
      num_bytes: of that array.
      num_classes: K.
    """

    keys: tuple[str, str]
    convert: Callable[[Any], np.ndarray]
    num_bytes: int
    num_classes: int


def _find_sources(name: str) -> Sequence[Address]:
    """Return from where a data set is downloaded; refuse a name that is unknown."""
    import tensorflow_datasets  # pyright: ignore[reportMissingImports]

    base, _, config = name.partition("/")
    known = tensorflow_datasets.list_builders(with_community_datasets=False)
    if base not in known:
        raise _unknown(name, base, known)
    builder = tensorflow_datasets.builder_cls(base)
    configs = [each.name for each in builder.BUILDER_CONFIGS]
    if config and config not in configs:
        raise _unknown(name, config, configs)
    return [server_of(url) for url in builder.url_infos]


def _unknown(name: str, part: str, known: Sequence[str]) -> ValueError:
    near = difflib.get_close_matches(part, known, n=3) or sorted(known)[:3]
    shown = f"; nearest: {', '.join(near)}" if near else ""
    return ValueError(
        f"dataset must be {PREFIX} and a name of tensorflow-datasets, got "
        f"{show_value(PREFIX + name)}{shown}"
    )


def _find_columns(info: Any) -> _Columns:
    """Return what is sample and what is label."""
    keys = info.supervised_keys
    is_pair = keys and len(keys) == 2 and all(isinstance(key, str) for key in keys)
    num_classes = getattr(info.features[keys[1]], "num_classes", None) if is_pair else 0
    if not num_classes:
        raise ValueError(
            "must name an input and a class label to be learned, got "
            f"{', '.join(sorted(info.features))}"
        )
    feature = info.features[keys[0]]
    dtype, shape = np.dtype(feature.np_dtype), tuple(feature.shape)
    if type(feature).__name__ == "Text":
        return _Columns(tuple(keys), count_words, 4 * NUM_COLUMNS, num_classes)
    if None in shape or not shape or dtype.kind not in "biuf":
        raise ValueError(
            f"{keys[0]} must hold numbers of one shape, got {dtype} of shape {shape}"
        )
    dtype = dtype if dtype == np.uint8 else np.dtype(np.float32)
    convert = functools.partial(np.asarray, dtype=dtype)
    num_bytes = math.prod(shape) * dtype.itemsize
    return _Columns(tuple(keys), convert, num_bytes, num_classes)


def _choose_splits(splits: Any) -> list[str]:
    """Return the splits to train on and to test on; one alone is to be divided."""
    if "train" not in splits:
        raise ValueError(f"must have a split train, got {', '.join(splits)}")
    return ["train", *[name for name in ("test", "validation") if name in splits][:1]]


def _make_dataset(
    splits: Sequence[tuple[np.ndarray, np.ndarray]], num_classes: int
) -> Dataset:
    (x_train, y_train), (x_test, y_test) = (
        splits if len(splits) == 2 else _hold_out(*splits[0])
    )
    y_train = to_labels("labels of split 'train'", y_train, num_classes)
    y_test = to_labels("labels of the test samples", y_test, num_classes)
    mean = None
    if x_train.dtype == np.uint8:
        mean = (x_train.sum(axis=0, dtype=np.int64) / len(x_train)).astype(np.float32)
    return Dataset(x_train, y_train, x_test, y_test, num_classes, mean)


def _hold_out(x: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    if len(y) < 2:
        raise ValueError(f"must have 2 examples or more, got {len(y)}")
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(y))
    test, train = np.split(order, [-(-len(y) // 5)])
    return [(x[train], y[train]), (x[test], y[test])]
