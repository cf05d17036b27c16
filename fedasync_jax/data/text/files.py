"""Text from files that are there already, plain or compressed; in one line what fails.

Nothing is downloaded.
"""

import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fedasync_jax.parts.bounds import INT32_MAX, shorten
from fedasync_jax.parts.files import open_regular, read_at_most

_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    "": lambda file: file,
    ".xz": lzma.LZMAFile,
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
}


def require_path(path: str | os.PathLike[str] | None, content: str, name: str) -> Path:
    """Return the folder of a text.

    Raises:
      ValueError: if none is given, in a line that says what it must hold.
    """
    if path is None:
        raise ValueError(
            f"data_path (--data-path) must name a folder with {content} for data set "
            f"{name}, got None"
        )
    return Path(path)


def find_text(folder: Path, names: Sequence[str]) -> Path:
    """Return the first of these files that is there, plain before .xz before .gz.

    Raises:
      ValueError: if none is there.
    """
    for name in names:
        for suffix in _OPENERS:
            file = folder / f"{name}{suffix}"
            if file.exists() and not file.is_dir():
                return file
    found = "no file" if folder.is_dir() else "no such folder; no file"
    raise ValueError(f"{folder}: {found} {' or '.join(names)} (plain, .xz or .gz)")


def read_text(file: Path) -> str:
    """Return the whole text of a file in UTF-8.

    A byte order mark is left out, and Windows' line ends become those of Unix.

    Args:
      file: ends in .xz or .gz if it is compressed.

    Raises:
      ValueError: if it is no regular file, cannot be read, is too long, truncated or
        damaged, or is not UTF-8.
    """
    open_stream = _OPENERS.get(file.suffix, _OPENERS[""])
    try:
        with open_regular(file) as stored, open_stream(stored) as stream:
            content = read_at_most(stream, INT32_MAX)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        reason = shorten(f"{type(error).__name__}: {error}")
        raise ValueError(f"{file}: cannot be read ({reason})") from error
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file}: must be UTF-8, got byte 0x{content[error.start]:02x} at position "
            f"{error.start}"
        ) from None
