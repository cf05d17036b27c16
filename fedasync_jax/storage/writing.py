"""Writing files of our own: whole or not at all, and never through a link.

A file is written under a name of our own beside its place, forced to the disk and moved
there in one step. Nobody ever reads half of it, and a full disk leaves what was there.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_OVERHEAD = 200_000  # bytes that orbax writes besides the arrays


def write_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put a file with this content in its place.

    Args:
      path: in a folder that is there; a link of this name is replaced, not followed.
      content: of the whole file.
      durable: whether it is forced to the disk, which takes milliseconds; without it, a
        power failure may leave an empty file, a kill of the process never does.

    Raises:
      OSError: if it cannot be written, in words that name ``path``.
    """
    scratch = path.with_name(f".{path.name}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NO_LINKS | _BINARY
    with naming(path):
        with os.fdopen(os.open(scratch, flags, 0o666), "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(scratch, path)


def check_room(path: Path, num_bytes: int) -> None:
    """Refuse what does not fit on the disk, before a library has written half of it.

    Args:
      path: in the folder that is written to.
      num_bytes: of its arrays; what else it takes is added.

    Raises:
      OSError: if less is free.
    """
    needed, free = num_bytes + _OVERHEAD, shutil.disk_usage(path.parent).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"no space left on the device: it takes {needed / 1e6:,.1f} MB, "
            f"{free / 1e6:,.1f} MB are free",
        )


def make_folder(folder: Path) -> None:
    """Make a folder of ours inside of a run folder, if it is not there.

    Raises:
      OSError: if it cannot be made, or is a link, which may lead to others' files.
    """
    with naming(folder):
        if folder.is_symlink():
            raise OSError(None, "it is a link, which a run does not write through")
        folder.mkdir(exist_ok=True)


def open_own(path: Path) -> int:
    """Open a file of ours for reading and writing, or make it; links are refused.

    Returns:
      A file descriptor.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS | _BINARY, 0o666)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in the error if it cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{path} could not be written: {reason}") from error
