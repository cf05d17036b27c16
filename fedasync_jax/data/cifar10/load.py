"""CIFAR-10 from files that are there already; nothing is downloaded.

Images stay uint8, a quarter of the memory of float32, and become float32 batch by
batch in the loss (``models.normalize_inputs``).

Reference: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedasync_jax.data.cifar10.batches import read_pickled_batch
from fedasync_jax.data.cifar10.images import NUM_CLASSES, check_images
from fedasync_jax.data.cifar10.tfds import NAME, load_cifar10_tfds
from fedasync_jax.data.dataset import Dataset, check_lengths, to_labels
from fedasync_jax.data.npz import read_arrays
from fedasync_jax.data.tfds.fetch import find_prepared
from fedasync_jax.parts.files import open_regular, read_at_most

_BATCH_SIZE = 10_000
_PIXELS = 3 * 32 * 32
_MAX_BATCH_BYTES = 2**30  # far above any batch
_CROP = slice(4, 28)

# Of the files of the python version, as published; the names are in this order.
_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_MUST_HOLD = (
    "data_dir must hold one of: cifar10.npz | data_batch_1..5 + test_batch | "
    "data_batch_1..5.bin + test_batch.bin | cifar10/<version> of tensorflow-datasets"
)


def load_cifar10(data_dir: str | os.PathLike[str], *, verify: bool = True) -> Dataset:
    """Load CIFAR-10 from the first of these layouts that is there and complete.

    1. ``cifar10.npz``, or ``data_dir`` is itself such a file: x_train, x_test uint8
       [N, 32, 32, 3] and y_train, y_test, whole numbers in 0..9; any number of images.
    2. The python version, ``data_batch_1`` .. ``data_batch_5`` and ``test_batch``, in
       ``data_dir`` or in its folder ``cifar-10-batches-py``. Its pickles are read
       without trust; nothing that they name is called.
    3. The binary version, the same names with ``.bin``, in ``data_dir`` or in its
       folder ``cifar-10-batches-bin``.
    4. What TensorFlow Datasets has prepared, ``cifar10/<version>/dataset_info.json``,
       as ``load_cifar10_tfds`` reads it; in another order than the others.

    Args:
      data_dir: a folder, or an ``.npz`` file.
      verify: compare the files of the python version with their published md5, before
        they are opened, and the number of images of the fourth layout. For the
        others no sum per file was published.

    Raises:
      ValueError: in one line, if files are missing, damaged or not of CIFAR-10, or if
        the fourth layout is found and the extra ``tfds`` is not installed.

    Returns:
      x_train uint8 [50000, 32, 32, 3] and x_test uint8 [10000, 32, 32, 3], both in
      0..255, unlike in other data sets; y_train and y_test int32; ten classes.
    """
    path = Path(data_dir)
    for file in (path, path / "cifar10.npz"):
        if file.is_file():
            with _naming(file):
                return _read_npz(file)
    if found := _find_layout(path):
        return _read_batches(*found, verify)
    if find_prepared(path, NAME):
        return load_cifar10_tfds(path, verify=verify)
    raise ValueError(f"{_describe_missing(path)}; {_MUST_HOLD}")


def prepare_cifar10(dataset: Dataset) -> tuple[Dataset, np.ndarray]:
    """Cut the centre out of every image and take the mean of the training images.

    Args:
      dataset: images uint8 [N, 32, 32, 3].

    Raises:
      ValueError: if the images are of another shape or kind.

    Returns:
      The data set with rows and columns 4..27, uint8 [N, 24, 24, 3], and the mean of
      its training images per pixel and channel, float32 [24, 24, 3] in 0..255, for
      ``models.normalize_inputs``.

    Reference: the experiments of Xie, Koyejo, Gupta, "Asynchronous Federated
    Optimization", OPT 2020, in their code.
    """
    for name, x in (("x_train", dataset.x_train), ("x_test", dataset.x_test)):
        check_images(name, x)
    x_train, x_test = (
        np.ascontiguousarray(x[:, _CROP, _CROP])
        for x in (dataset.x_train, dataset.x_test)
    )
    cropped = dataset._replace(x_train=x_train, x_test=x_test)
    return cropped, mean_of_images(x_train)


def mean_of_images(images: np.ndarray) -> np.ndarray:
    """Return the mean of uint8 [N, ...], float32 [...] in 0..255."""
    mean_image = images.sum(axis=0, dtype=np.int64) / len(images)
    return mean_image.astype(np.float32)


class _Layout(NamedTuple):
    """One way in which CIFAR-10 is laid out on disk, the test batch last."""

    title: str
    folder: str
    names: tuple[str, ...]
    read: Callable[[Path, bool], tuple[np.ndarray, np.ndarray]]


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Put the name of the file in front of whatever is wrong with it."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _find_layout(path: Path) -> tuple[Path, _Layout] | None:
    """Return the first complete layout and its folder."""
    for folder, layout, missing in _look_for_layouts(path):
        if not missing:
            return folder, layout
    return None


def _describe_missing(path: Path) -> str:
    """Say what the first layout that is there in part lacks."""
    for folder, layout, missing in _look_for_layouts(path):
        if len(missing) < len(layout.names):
            return f"{folder}: the {layout.title} lacks {', '.join(missing)}"
    found = "no CIFAR-10 found" if path.is_dir() else "no such file or folder"
    return f"{path}: {found}"


def _look_for_layouts(path: Path) -> Iterator[tuple[Path, _Layout, list[str]]]:
    """Yield where a layout may be, the layout, and the names that are missing there."""
    for layout in _LAYOUTS:
        for folder in (path, path / layout.folder):
            missing = [name for name in layout.names if not (folder / name).is_file()]
            yield folder, layout, missing


def _read_batches(folder: Path, layout: _Layout, verify: bool) -> Dataset:
    batches = []
    for name in layout.names:
        with _naming(folder / name):
            batches.append(layout.read(folder / name, verify))
    *train, (x_test, y_test) = batches
    x_train, y_train = (np.concatenate(part) for part in zip(*train, strict=True))
    return Dataset(x_train, y_train, x_test, y_test, NUM_CLASSES)


def _read_npz(file: Path) -> Dataset:
    stored = read_arrays(file)
    x_train, x_test = (stored[name] for name in ("x_train", "x_test"))
    check_images("x_train", x_train)
    check_images("x_test", x_test)
    y_train = to_labels("y_train", stored["y_train"], NUM_CLASSES)
    y_test = to_labels("y_test", stored["y_test"], NUM_CLASSES)
    check_lengths("train", x_train, y_train)
    check_lengths("test", x_test, y_test)
    return Dataset(x_train, y_train, x_test, y_test, NUM_CLASSES)


def _read_python(file: Path, verify: bool) -> tuple[np.ndarray, np.ndarray]:
    with open_regular(file) as stream:
        content = read_at_most(stream, _MAX_BATCH_BYTES)
    if verify:
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != _MD5[file.name]:
            raise ValueError(
                f"md5 must be {_MD5[file.name]} (as published; else verify=False), "
                f"got {found}"
            )
    data, labels = read_pickled_batch(content)
    if data.shape != (_BATCH_SIZE, _PIXELS) or len(labels) != _BATCH_SIZE:
        raise ValueError(
            f"must hold data of shape {(_BATCH_SIZE, _PIXELS)} and {_BATCH_SIZE} "
            f"labels, got {data.shape} and {len(labels)}"
        )
    return _to_images(data), to_labels("labels", labels, NUM_CLASSES)


def _read_binary(file: Path, verify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Read records of one label and 3072 pixels; there is no sum to verify."""
    del verify
    with open_regular(file) as stream:
        content = read_at_most(stream, _MAX_BATCH_BYTES)
    expected, found = _BATCH_SIZE * (1 + _PIXELS), len(content)
    if found != expected:
        raise ValueError(
            f"must have {expected} bytes ({_BATCH_SIZE} records of {1 + _PIXELS}), "
            f"got {found}"
        )
    records = np.frombuffer(content, np.uint8).reshape(_BATCH_SIZE, 1 + _PIXELS)
    labels = to_labels("labels", records[:, 0], NUM_CLASSES)
    return _to_images(records[:, 1:]), labels


def _to_images(data: np.ndarray) -> np.ndarray:
    """Return [N, 32, 32, 3] from rows of three planes, red, green, blue."""
    planes = data.reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


_LAYOUTS = (
    _Layout("python version", "cifar-10-batches-py", tuple(_MD5), _read_python),
    _Layout(
        "binary version",
        "cifar-10-batches-bin",
        tuple(f"{name}.bin" for name in _MD5),
        _read_binary,
    ),
)
