"""One writer at a time: the lock of a folder."""

import os
import socket
from pathlib import Path

from fedasync_jax.storage.writing import open_own


def lock_folder(folder: Path, name: str = "run_dir") -> int:
    """Take the lock of a folder, which is held until it is closed or the process ends.

    The system lets go of it however the process ends, so that nothing is left behind.
    Where the system has no such locks, as on Windows, nothing is locked.

    Args:
      folder: it must exist.
      name: of the setting that says where it is, for errors.

    Raises:
      OSError: if the folder cannot be written to.
      ValueError: if another process holds the lock.

    Returns:
      A file descriptor; closing it lets go of the lock.
    """
    lock = open_own(folder / ".lock")
    holder = _try_lock(lock)
    if holder:
        os.close(lock)
        raise ValueError(
            f"{name} must not be in use, got {folder}, which {holder} writes to"
        )
    os.truncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return lock


def find_writer(folder: Path) -> str | None:
    """Return which process holds the lock of a folder; None if none does."""
    try:
        lock = os.open(folder / ".lock", os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        return _try_lock(lock)
    finally:
        os.close(lock)


def _try_lock(lock: int) -> str | None:
    """Lock an open file; return who holds it if that cannot be done."""
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return None
    except BlockingIOError:
        holder = os.read(lock, 200).decode(errors="replace")
        return "".join(filter(str.isprintable, holder)) or "another process"
    return None
