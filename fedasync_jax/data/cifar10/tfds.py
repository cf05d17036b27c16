"""CIFAR-10 as TensorFlow Datasets has prepared it, read without TensorFlow."""

import os
from pathlib import Path

from fedasync_jax.data.cifar10.images import NUM_CLASSES, check_images
from fedasync_jax.data.dataset import Dataset, to_labels
from fedasync_jax.data.tfds.fetch import (
    Address,
    Wanted,
    fetch_prepared,
    find_prepared,
)
from fedasync_jax.data.tfds.prepared import (
    describe_preparation,
    naming_folder,
    open_builder,
    read_split,
)

NAME = "cifar10"

_NUM_EXAMPLES = {"train": 50_000, "test": 10_000}
_INSTEAD = (
    "data_path (--data-path) must name a folder with cifar10.npz, the batches of the "
    "python or binary version, or cifar10/<version> of tensorflow-datasets"
)
# Where TensorFlow Datasets downloads CIFAR-10 from, 170 MB.
_SOURCE = Address("www.cs.toronto.edu", 443)


def fetch_cifar10(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load CIFAR-10 from TensorFlow Datasets; the first time, download and prepare it.

    What is prepared is read as ``load_cifar10_tfds`` does, without TensorFlow or a
    network; see ``fetch_prepared`` for the preparation, of 170 MB.

    Args:
      data_dir: the folder of TensorFlow Datasets; default ``$TFDS_DATA_DIR``, else
        ``~/tensorflow_datasets``.

    Raises:
      ValueError: in one line, as ``fetch_prepared`` or ``load_cifar10_tfds``.

    Returns:
      The record of ``load_cifar10``: images uint8, in 0..255.
    """
    archives = ("*cifar-10-binary*.tar.gz",)
    wanted = Wanted(NAME, NAME, _INSTEAD, lambda: [_SOURCE], archives)
    folder = fetch_prepared(wanted, data_dir)
    with naming_folder(folder):
        return _read(folder, verify=True)


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
    folder = find_prepared(data_dir, NAME)
    if folder is None:
        raise ValueError(
            f"{data_dir}: no cifar10/<version>/dataset_info.json found; prepare it "
            f"{describe_preparation(NAME)}"
        )
    with naming_folder(folder):
        return _read(folder, verify)


def _read(folder: Path, verify: bool) -> Dataset:
    builder = open_builder(folder, NAME)
    splits = {split: read_split(builder, split) for split in _NUM_EXAMPLES}
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
