"""Text from files that are there already, plain or compressed; in one line what fails.

Nothing is downloaded.
"""

import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

_READERS: dict[str, Callable[[Path], bytes]] = {
    "": Path.read_bytes,
    ".xz": lambda file: _read_all(lzma.open(file)),
    ".gz": lambda file: _read_all(gzip.open(file)),
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
        for suffix in _READERS:
            file = folder / f"{name}{suffix}"
            if file.is_file():
                return file
    found = "no file" if folder.is_dir() else "no such folder; no file"
    raise ValueError(f"{folder}: {found} {' or '.join(names)} (plain, .xz or .gz)")


def read_text(file: Path) -> str:
    """Return the whole text of a file in UTF-8, line ends as they are.

    Args:
      file: ends in .xz or .gz if it is compressed.

    Raises:
      ValueError: if it cannot be read, is truncated or damaged, or is not UTF-8.
    """
    try:
        content = _READERS.get(file.suffix, Path.read_bytes)(file)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{file}: cannot be read ({reason})") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file}: must be UTF-8, got byte 0x{content[error.start]:02x} at position "
            f"{error.start}"
        ) from None


def _read_all(stream: lzma.LZMAFile | gzip.GzipFile) -> bytes:
    with stream:
        return stream.read()
