"""CIFAR-10 as TensorFlow Datasets has prepared it, read without TensorFlow.

Needs the extra ``tfds``, and Pillow or OpenCV to decode the images.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.data.cifar10 import IMAGE_SHAPE, NUM_CLASSES
from fedasync_jax.data.datasets import Dataset

_NUM_EXAMPLES = {"train": 50_000, "test": 10_000}
_PREPARE = (
    "prepare it with tfds.builder('cifar10', data_dir=..., "
    "file_format='array_record').download_and_prepare()"
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
        another format, damaged or of other numbers.
      ModuleNotFoundError: if ``tensorflow_datasets`` is not installed.

    Returns:
      The record of ``load_cifar10``: images uint8, in 0..255.
    """
    folder = _find_version(Path(data_dir))
    try:
        import tensorflow_datasets  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"load_cifar10_tfds needs the extra 'tfds' ({error})"
        ) from error
    try:
        # Of these files alone: the builder of the name would ask the network.
        builder: Any = tensorflow_datasets.builder_from_directory(folder)
        splits = {split: _read_split(builder, split) for split in _NUM_EXAMPLES}
    # Whatever the libraries below raise: they have no common type.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{folder}: cannot be read ({reason})") from error
    for split, (x, y) in splits.items():
        _check_split(f"{folder}: split {split!r}", x, y)
        if verify and len(x) != _NUM_EXAMPLES[split]:
            raise ValueError(
                f"{folder}: split {split!r} must have {_NUM_EXAMPLES[split]} images "
                f"(else verify=False), got {len(x)}"
            )
    return Dataset(*splits["train"], *splits["test"], NUM_CLASSES)


def _find_version(data_dir: Path) -> Path:
    """Return the folder of the newest version; nothing but this disk is asked."""
    found = [info.parent for info in data_dir.glob("cifar10/*/dataset_info.json")]
    versions = {tuple(map(int, p.name.split("."))): p for p in found if _is_version(p)}
    if not versions:
        raise ValueError(
            f"{data_dir}: no cifar10/<version>/dataset_info.json found; {_PREPARE}"
        )
    return versions[max(versions)]


def _is_version(folder: Path) -> bool:
    return all(part.isdecimal() for part in folder.name.split("."))


def _read_split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images as they are, and labels int32 [N]."""
    source = builder.as_data_source(split=split)
    examples = [source[i] for i in range(len(source))]
    x = np.stack([example["image"] for example in examples])
    return x, np.array([example["label"] for example in examples], np.int32)


def _check_split(name: str, x: np.ndarray, y: np.ndarray) -> None:
    if x.dtype != np.uint8 or x.shape[1:] != IMAGE_SHAPE:
        raise ValueError(
            f"{name} must have images uint8 {list(IMAGE_SHAPE)}, got {x.dtype} "
            f"{list(x.shape[1:])}"
        )
    if not (0 <= y.min() and y.max() < NUM_CLASSES):
        raise ValueError(
            f"{name} must have labels in 0..{NUM_CLASSES - 1}, got {y.min()}..{y.max()}"
        )
