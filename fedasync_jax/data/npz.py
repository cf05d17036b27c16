"""A user's own data set from an .npz file, checked before anything is trained on it.

The file is not trusted: nothing is unpickled, and whatever is wrong with it is told in
one line that names the file and the array.
"""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fedasync_jax.data.dataset import Dataset, check_lengths, to_labels
from fedasync_jax.data.partition.by_key import check_keys
from fedasync_jax.parts.bounds import shorten
from fedasync_jax.parts.files import open_regular
from fedasync_jax.parts.memory import check_fits

_NAMES = ("x_train", "y_train", "x_test", "y_test")
_KEYS = "client_train"
_MAX_CLASSES = np.iinfo(np.int32).max
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# Fewer classes may all be there although few have samples, such as ten of ImageNet's.
_FEW_CLASSES, _MOST_PER_LABEL = 1000, 10


def load_npz(
    path: str | os.PathLike[str], *, num_classes: int | None = None
) -> Dataset:
    """Load the arrays x_train, y_train, x_test and y_test of an ``.npz`` file.

    Samples become float32. Those stored as uint8 are taken for images and divided by
    255 into 0..1; all others keep their values. Labels are whole numbers and become
    int32. An array client_train, if there is one, becomes the keys of the natural
    partition. Other arrays in the file are left alone.

    Args:
      path: made by ``np.savez`` or ``np.savez_compressed``. x_*: numbers [N, ...] with
        at least one axis for the sample; y_*: whole numbers [N]; client_train: whose
        each training sample is, integers or strings [N].
      num_classes: K; default the largest label + 1.

    Raises:
      ValueError: in one line, if the file cannot be read, an array is missing, empty,
        damaged or of a wrong kind, lengths or sample shapes differ, a sample is not
        finite, or a label is not in 0..K-1; if K is not given and the labels are
        numbers of something else, so that nearly all of the K classes have no sample.
    """
    if num_classes is not None and not 1 <= num_classes <= _MAX_CLASSES:
        raise ValueError(f"num_classes must be in 1..{_MAX_CLASSES}, got {num_classes}")
    try:
        return make_dataset(read_arrays(path, optional=(_KEYS,)), num_classes)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def read_arrays(
    path: str | os.PathLike[str], *, optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Return the four arrays, and those ``optional`` ones that are there, as stored."""
    with _open_archive(path) as archive:
        members = archive.namelist()
        missing = [name for name in _NAMES if f"{name}.npy" not in members]
        if missing:
            raise ValueError(f"the arrays {', '.join(missing)} are missing")
        found = [name for name in optional if f"{name}.npy" in members]
        return {name: _read_array(archive, name) for name in (*_NAMES, *found)}


@contextlib.contextmanager
def _open_archive(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(Path(path)))
            archive = stack.enter_context(zipfile.ZipFile(file))
        # A damaged file raises any of a dozen types, from zipfile, zlib, struct or
        # NumPy.
        except Exception as error:
            raise ValueError(
                f"cannot be opened as an .npz file ({_one_line(error)})"
            ) from error
        yield archive


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    try:
        _check_header(archive, name)
        with archive.open(f"{name}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
            # The checksum is only compared at the end of the member.
            if member.read(1):
                raise ValueError("bytes after the end of the array")
            return array
    except Exception as error:
        raise ValueError(f"{name} cannot be read ({_one_line(error)})") from error


def _check_header(archive: zipfile.ZipFile, name: str) -> None:
    """Refuse an array that the member cannot hold, or the memory, before it is made."""
    info = archive.getinfo(f"{name}.npy")
    check_fits(name, f"{info.file_size} bytes", info.file_size)
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read = _READ_HEADER.get(version, np.lib.format.read_array_header_2_0)
        shape, _, dtype = read(member)
        stored = info.file_size - member.tell()
    if dtype.hasobject or version not in _READ_HEADER:
        return  # the reader has better words for these
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or needed > stored:
        raise ValueError(
            f"shape {shape} and dtype {dtype} need {needed} bytes, got {stored}"
        )


def _one_line(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}")


def make_dataset(stored: dict[str, np.ndarray], num_classes: int | None) -> Dataset:
    """Check every array alone, then against the others."""
    x_train, x_test = (_to_samples(n, stored[n]) for n in ("x_train", "x_test"))
    limit = num_classes or _MAX_CLASSES
    y_train, y_test = (to_labels(n, stored[n], limit) for n in ("y_train", "y_test"))
    check_lengths("train", x_train, y_train)
    check_lengths("test", x_test, y_test)
    _check_alike(stored["x_train"], stored["x_test"])
    num_classes = num_classes or _count_classes(y_train, y_test)
    keys = stored.get(_KEYS)
    if keys is not None and len(check_keys(_KEYS, keys)) != len(x_train):
        raise ValueError(
            f"x_train and {_KEYS} must have one length, "
            f"got {len(x_train)} and {len(keys)}"
        )
    return Dataset(x_train, y_train, x_test, y_test, num_classes, client_train=keys)


def _to_samples(name: str, array: np.ndarray) -> np.ndarray:
    """Return finite float32 [N, ...]."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"{name} must have a shape [N, ...] without zeros, got {array.shape}"
        )
    with np.errstate(over="ignore"):
        samples = array.astype(np.float32)
    finite = np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{name} must be finite in float32, got NaN or infinity in row "
            f"{np.argmin(finite)}"
        )
    return samples / np.float32(255) if array.dtype == np.uint8 else samples


def _count_classes(y_train: np.ndarray, y_test: np.ndarray) -> int:
    """Return the largest label + 1; refuse labels that are identifiers."""
    different = len(np.union1d(y_train, y_test))
    implied = int(max(y_train.max(), y_test.max())) + 1
    if implied > max(_FEW_CLASSES, _MOST_PER_LABEL * different):
        raise ValueError(
            f"y_train and y_test must number the classes 0, 1, 2 and so on, got "
            f"{different} different labels, of which the largest, {implied - 1}, "
            f"implies {implied} classes (np.unique with return_inverse=True numbers "
            "them)"
        )
    return implied


def _check_alike(x_train: np.ndarray, x_test: np.ndarray) -> None:
    """Refuse samples of two shapes, or of two scales (only uint8 is divided)."""
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            "x_train and x_test must have samples of one shape, "
            f"got {x_train.shape[1:]} and {x_test.shape[1:]}"
        )
    if (x_train.dtype == np.uint8) != (x_test.dtype == np.uint8):
        raise ValueError(
            "x_train and x_test must both be uint8 or neither, "
            f"got {x_train.dtype} and {x_test.dtype}"
        )
