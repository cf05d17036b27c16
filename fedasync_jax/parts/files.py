"""Opening files that a user names: regular files alone, and text as it was meant.

A named pipe or a device can be opened like a file and then never ends, or never begins.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO, Protocol

from fedasync_jax.parts.bounds import shorten

_PART = 2**24  # bytes that are read at a time


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def stat_folder(name: str, path: Path) -> os.stat_result | None:
    """Return what lies where a folder is to be; None: nothing.

    Args:
      name: of the setting, for errors.
      path: of the folder.

    Raises:
      ValueError: if nothing can lie there, as where the name is too long.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(
            f"{name} must be a folder that can be made and written to, got "
            f"{shorten(str(path))} ({error.strerror})"
        ) from error


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading bytes; links to one are followed.

    Raises:
      OSError: if there is no such file, or it cannot be read.
      ValueError: if ``path`` is a folder, a pipe, a socket or a device.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)  # a pipe without a writer would block here
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} must be a regular file, got another kind")
    return os.fdopen(descriptor, "rb")


def read_utf8(path: str | Path) -> str:
    """Return a UTF-8 text, without a byte order mark and with Unix line ends.

    Raises:
      OSError: see ``open_regular``.
      ValueError: if it is no regular file, or its bytes are not UTF-8.
    """
    with open_regular(path) as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} must be UTF-8 text, got byte {content[error.start]:#04x} at "
            f"{error.start}"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_at_most(stream: _Readable, most: int) -> bytes:
    """Return all bytes of a stream; a small compressed file may unpack to any number.

    Args:
      stream: open for reading.
      most: bytes that are allowed.

    Raises:
      ValueError: if there are more.
    """
    content = bytearray()
    while part := stream.read(min(_PART, most + 1 - len(content))):
        content += part
        if len(content) > most:
            raise ValueError(f"it must hold {most} bytes at most, got more")
    return bytes(content)
