"""Folders that orbax wrote: known by its marks, removed file by file.

A user may put a file into one of them. Only files with names that orbax gives are
removed, and a folder only when it is empty.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_MARKS = {"_CHECKPOINT_METADATA", "_METADATA"}
_UNFINISHED = ".orbax-checkpoint-tmp"

# Its own files, the databases of tensorstore, and the arrays of older versions.
_NAMES = re.compile(
    r"_[A-Za-z_]+(\.json)?|commit_success\.txt|descriptor\.pbtxt|process_\d+"
    r"|manifest\.ocdbt.*|[0-9a-f]{32}.*|\.z(array|group|attrs)|\d+(\.\d+)*"
)


def is_orbax(folder: Path) -> bool:
    """Return whether a folder is one that orbax wrote, or was writing; no link."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return bool(names & _MARKS) or _UNFINISHED in folder.name


def list_foreign(folder: Path) -> list[Path]:
    """Return what orbax did not write in one of its folders."""
    return [path for path in _walk(folder) if not _is_own(path)]


def remove_orbax(folder: Path) -> None:
    """Remove what orbax wrote; what else is in its folder stays there.

    Its marks go last, so that what an interruption leaves is still known.
    """
    own = [path for path in _walk(folder) if _is_own(path)]
    for path in sorted(own, key=lambda path: path.name in _MARKS):
        with contextlib.suppress(OSError):
            path.unlink()
    for place, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(place)  # if it is empty


def _walk(folder: Path) -> Iterator[Path]:
    """Yield files and links; links to folders are not followed."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in [*files, *links])


def _is_own(path: Path) -> bool:
    return not path.is_symlink() and _NAMES.fullmatch(path.name) is not None
