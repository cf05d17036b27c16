"""What TensorFlow Datasets has prepared on this disk, read without TensorFlow.

Needs the extra ``tfds``, and of it not TensorFlow itself.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.parts.bounds import shorten

FILE_FORMAT = "array_record"


def describe_preparation(name: str) -> str:
    """Return how to prepare a data set by hand."""
    return (
        f"with tfds.builder('{name}', data_dir=..., "
        f"file_format='{FILE_FORMAT}').download_and_prepare()"
    )


def one_line(error: Exception) -> str:
    """Return type and message of an error of any library."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextlib.contextmanager
def naming_folder(folder: Path) -> Iterator[None]:
    """Put the folder in front of whatever is wrong with it, in one line."""
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"{folder}: reading it needs the extra 'tfds' ({one_line(error)})"
        ) from error
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Turn what the libraries raise into one kind: their errors have no common type."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"cannot be read ({shorten(one_line(error), 200)})") from error


def open_builder(folder: Path, name: str) -> Any:
    """Return the builder of a prepared folder; it is asked for these files alone.

    Raises:
      ValueError: if it is in another format than ``FILE_FORMAT``, or damaged.
      ImportError: if the extra ``tfds`` is not installed.
    """
    _check_format(folder, name)
    import tensorflow_datasets  # pyright: ignore[reportMissingImports]

    with reading():
        return tensorflow_datasets.builder_from_directory(folder)


def _check_format(folder: Path, name: str) -> None:
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
            f"it in another folder {describe_preparation(name)}"
        )


def read_split(
    builder: Any,
    split: str,
    keys: tuple[str, str] = ("image", "label"),
    convert: Callable[[Any], np.ndarray] = np.asarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return samples and labels of a split, in the order of the files.

    Each sample is put where it stays, so that they are in memory once.

    Args:
      builder: see ``open_builder``.
      split: its name.
      keys: of sample and label in an example.
      convert: makes an array of a sample, of the same shape for all.

    Raises:
      ValueError: in one line, if it is empty, damaged, or of samples of many shapes.
    """
    sample_key, label_key = keys
    with reading():
        source = builder.as_data_source(split=split)
        count = len(source)
        if not count:
            raise ValueError(f"split {split!r} has no examples")
        first = convert(source[0][sample_key])
        x, y = np.empty((count, *first.shape), first.dtype), np.empty(count, np.int64)
        for i in range(count):
            example = source[i]
            sample = convert(example[sample_key])
            if sample.shape != first.shape:
                raise ValueError(
                    f"split {split!r} has samples of the shapes {first.shape} and "
                    f"{sample.shape}"
                )
            x[i], y[i] = sample, example[label_key]
    return x, y
