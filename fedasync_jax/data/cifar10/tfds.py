"""CIFAR-10 as TensorFlow Datasets has prepared it, read without TensorFlow.

Needs the extra ``tfds``, and of it not TensorFlow itself.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.data.cifar10.images import NUM_CLASSES, check_images
from fedasync_jax.data.dataset import Dataset, to_labels

FILE_FORMAT = "array_record"

_NUM_EXAMPLES = {"train": 50_000, "test": 10_000}
_PREPARE = (
    "with tfds.builder('cifar10', data_dir=..., "
    f"file_format='{FILE_FORMAT}').download_and_prepare()"
)


def load_cifar10_tfds(
    data_dir: str | os.PathLike[str], *, verify: bool = True
) -> Dataset:
    """Load CIFAR-10 from a folder of TensorFlow Datasets; downloads nothing.

    The data must have been prepared in the format array_record, which can be read
    without TensorFlow. The newest version is taken. The order of the images is that
    of the prepared files, which TensorFlow Datasets shuffles when it writes them.

    Args:
      data_dir: the folder that holds ``cifar10/<version>/dataset_info.json``.
      verify: require 50,000 training and 10,000 test images.

    Raises:
      ValueError: in one line, if the data set has not been prepared there, is in
        another format, damaged or of other numbers, or if the extra ``tfds`` is not
        installed.

    Returns:
      The record of ``load_cifar10``: images uint8, in 0..255.
    """
    folder = find_prepared(data_dir)
    if folder is None:
        raise ValueError(
            f"{data_dir}: no cifar10/<version>/dataset_info.json found; prepare it "
            f"{_PREPARE}"
        )
    try:
        return _read(folder, verify)
    except ImportError as error:
        raise ValueError(
            f"{folder}: reading it needs the extra 'tfds' ({one_line(error)})"
        ) from error
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def find_prepared(data_dir: str | os.PathLike[str]) -> Path | None:
    """Return the folder of the newest version; nothing but this disk is asked.

    What TensorFlow Datasets has not finished lies in a folder that is no version.
    """
    found = [p.parent for p in Path(data_dir).glob("cifar10/*/dataset_info.json")]
    versions = {tuple(map(int, p.name.split("."))): p for p in found if _is_version(p)}
    return versions[max(versions)] if versions else None


def one_line(error: Exception) -> str:
    """Return type and message of an error of any library."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _is_version(folder: Path) -> bool:
    return all(part.isdecimal() for part in folder.name.split("."))


def _read(folder: Path, verify: bool) -> Dataset:
    _check_format(folder)
    splits = _read_splits(folder)
    for split, (x, _) in splits.items():
        check_images(f"split {split!r}", x)
        if verify and len(x) != _NUM_EXAMPLES[split]:
            raise ValueError(
                f"split {split!r} must have {_NUM_EXAMPLES[split]} images "
                f"(else verify=False), got {len(x)}"
            )
    (x_train, y_train), (x_test, y_test) = splits["train"], splits["test"]
    y_train = to_labels("labels of split 'train'", y_train, NUM_CLASSES)
    y_test = to_labels("labels of split 'test'", y_test, NUM_CLASSES)
    return Dataset(x_train, y_train, x_test, y_test, NUM_CLASSES)


def _check_format(folder: Path) -> None:
    """Refuse what only TensorFlow can read, in clearer words than the reader has."""
    try:
        info = json.loads((folder / "dataset_info.json").read_bytes())
        first = info.get("fileFormat", "tfrecord")
        formats = [first, *info.get("alternativeFileFormats", [])]
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"dataset_info.json cannot be read ({one_line(error)})"
        ) from error
    if FILE_FORMAT not in formats:
        raise ValueError(
            f"must be in the format {FILE_FORMAT}, got {', '.join(formats)}; prepare "
            f"it in another folder {_PREPARE}"
        )


def _read_splits(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    import tensorflow_datasets  # pyright: ignore[reportMissingImports]

    try:
        # Of these files alone: the builder of the name would ask the network.
        builder: Any = tensorflow_datasets.builder_from_directory(folder)
        return {split: _read_split(builder, split) for split in _NUM_EXAMPLES}
    except ImportError:
        raise
    # Whatever the libraries below raise: they have no common type.
    except Exception as error:
        raise ValueError(f"cannot be read ({one_line(error)})") from error


def _read_split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels as they are stored."""
    source = builder.as_data_source(split=split)
    examples = [source[i] for i in range(len(source))]
    x = np.stack([example["image"] for example in examples])
    return x, np.array([example["label"] for example in examples])
