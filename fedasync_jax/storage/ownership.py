"""Results in folders that a user chooses: only what we wrote there is written over.

A folder that we write into keeps ``.fedasync.json``: the names of our files and the
checksums of what we put into them. A file of another origin, and one of ours that was
changed since, is the user's and stays as it is.
"""

import hashlib
import json
import os
from pathlib import Path

from fedasync_jax.parts.files import open_regular
from fedasync_jax.storage.schema import read_json
from fedasync_jax.storage.writing import naming, write_file

_MARKS = ".fedasync.json"


def write_owned(path: Path, content: bytes, *, is_ours: bool = False) -> None:
    """Write a file, unless one of the user's has its name.

    Args:
      path: of the file; its folder is made if need be.
      content: of the whole file.
      is_ours: whether a file that was never marked is one of ours all the same, as
        those of earlier versions are.

    Raises:
      OSError: if it cannot be written.
      ValueError: if a file that is not ours, or was changed, has this name.
    """
    folder = path.parent
    with naming(path):
        folder.mkdir(parents=True, exist_ok=True)
    check_owned(path, is_ours=is_ours)
    marks = _read_marks(folder)
    before = marks.get(path.name, [])
    # The new mark first, beside the old one: one of them is right whenever it is cut.
    digest = hashlib.sha256(content).hexdigest()
    _write_marks(folder, {**marks, path.name: [*before, digest]})
    write_file(path, content)
    _write_marks(folder, {**marks, path.name: [digest]})


def check_owned(path: Path, *, is_ours: bool = False) -> None:
    """Refuse a file that ``write_owned`` would refuse, before the work is done.

    Raises:
      ValueError: see ``write_owned``.
    """
    if not os.path.lexists(path):
        return
    marks = _read_marks(path.parent).get(path.name)
    is_known = is_ours if marks is None else _hash_file(path) in marks
    if path.is_symlink() or not is_known:
        raise ValueError(
            f"{path} must be new or as this program wrote it, got a file of another "
            "origin; move it away or choose another folder"
        )


def has_runs(folder: Path) -> bool:
    """Return whether run folders lie in a folder, as in that of a sweep."""
    if not os.path.isdir(folder):  # nor can a name be that is too long for ``glob``
        return False
    return any(folder.glob("*/config.json")) or any(folder.glob("*/*/config.json"))


def _read_marks(folder: Path) -> dict[str, list[str]]:
    path = folder / _MARKS
    if not os.path.lexists(path):
        return {}
    marks, _ = read_json(path, dict[str, list[str]], "checksums by name")
    return marks


def _write_marks(folder: Path, marks: dict[str, list[str]]) -> None:
    text = json.dumps(marks, indent=2, sort_keys=True)
    write_file(folder / _MARKS, f"{text}\n".encode(), durable=False)


def _hash_file(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.sha256(file.read()).hexdigest()
