"""Archives of arrays: ``.npz`` files with a checksum of the whole file.

The checksum is the comment of the zip archive, its last bytes, so that file and
checksum are written in one step and NumPy reads the file as any other. Arrays are never
unpickled.
"""

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.base import ArrayLike
from fedasync_jax.parts.bounds import shorten
from fedasync_jax.parts.files import open_regular
from fedasync_jax.storage.schema import LONGEST_LINE
from fedasync_jax.storage.writing import write_file

_MARK = b"sha256:"
_LENGTH = 64  # hexadecimal digits

# What NumPy, zipfile and zlib raise at a file that is not what it says.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


def write_archive(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write arrays by name.

    Raises:
      OSError: if the file cannot be written.
    """
    on_host: dict[str, Any] = {name: np.asarray(a) for name, a in arrays.items()}
    memory = io.BytesIO()
    np.savez_compressed(memory, **on_host)
    with zipfile.ZipFile(memory, "a") as archive:
        archive.comment = _MARK + b"0" * _LENGTH
    content = memory.getvalue()[:-_LENGTH]
    digest = hashlib.sha256(content).hexdigest()
    write_file(path, content + digest.encode(), durable=False)


def read_archive(path: Path, columns: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return all arrays of an archive, all of one length.

    Args:
      path: of the file; one that an earlier version wrote has no checksum.
      columns: arrays that must be there, and the kinds of NumPy types that each may
        have, such as ``"iu"``: the numbers of clients are whole.

    Raises:
      ValueError: if it cannot be read, is damaged, or holds something else.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
        arrays = _unpack(content)
        lengths = {len(arrays[name]) for name in {*arrays, *columns}}
    except _BROKEN as error:
        raise ValueError(
            shorten(
                f"{path} must be an archive of {', '.join(columns)}, got {error}",
                LONGEST_LINE,
            )
        ) from error
    if len(lengths) > 1:
        raise ValueError(f"{path} must hold arrays of one length, got {lengths}")
    for name, kinds in columns.items():
        _check_column(path, name, arrays[name], kinds)
    return arrays


def _unpack(content: bytes) -> dict[str, np.ndarray]:
    mark = len(content) - _LENGTH - len(_MARK)
    if mark > 0 and content[mark:-_LENGTH] == _MARK:
        digest = hashlib.sha256(content[:-_LENGTH]).hexdigest()
        if digest.encode() != content[-_LENGTH:]:
            raise ValueError("a damaged file: its checksum differs")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _check_column(path: Path, name: str, array: np.ndarray, kinds: str) -> None:
    if array.dtype.kind not in kinds:
        raise ValueError(
            f"{name} in {path} must have a type of kind {kinds}, got {array.dtype}"
        )
    right = np.isfinite(array) | (name == "alpha")  # of a model that is not finite
    if name in ("client", "staleness"):
        right &= array >= 0
    if not right.all():
        allowed = "finite" if array.dtype.kind == "f" else ">= 0"
        wrong = array[np.argmin(right)] if array.ndim == 1 else array[~right][0]
        raise ValueError(f"{name} in {path} must be {allowed}, got {wrong}")
