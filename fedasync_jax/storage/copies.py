"""Run folders as bytes, for machines that share no disk."""

import os
from collections.abc import Mapping
from pathlib import Path

from fedasync_jax.storage.lock import lock_folder
from fedasync_jax.storage.writing import make_folder, naming, write_file

_LAST = "summary.json"  # says that a run is done


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a run folder by their paths in it; locks stay out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name != ".lock"
    }


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a run folder that was made elsewhere; others' files in it stay.

    What says that the run is done is written last.

    Args:
      folder: new, or that of the same run (see ``resume.check_goes_on``).
      files: see ``read_folder``.

    Raises:
      OSError: if it cannot be written.
      ValueError: if another process writes to it.
    """
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(folder)
    try:
        for name in sorted(files, key=lambda name: (name == _LAST, name)):
            path = folder / name
            for parent in reversed(path.relative_to(folder).parents[:-1]):
                make_folder(folder / parent)
            write_file(path, files[name])
    finally:
        os.close(lock)
