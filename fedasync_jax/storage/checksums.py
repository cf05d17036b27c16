"""Seals of checkpoints: a file beside a folder that says what is in it.

A seal is JSON: what its maker wants to keep, checksums of all files of the folder, and
a checksum of itself. It is written last and in one move, so that a folder with a seal
that holds is whole.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.storage.schema import Seal, SealContent, hash_json, read_json
from fedasync_jax.storage.writing import write_file


def seal_of(folder: Path) -> Path:
    """Return where the seal of a checkpoint is: ``12.json`` of the folder ``12``."""
    return folder.with_suffix(".json")


def write_seal(folder: Path, content: Mapping[str, Any]) -> None:
    """Seal a folder.

    Args:
      folder: all its files are written.
      content: what else to keep, as JSON has it; with a ``score``, see ``find_scores``.
    """
    sealed = {**content, "files": _hash_files(folder)}
    text = json.dumps({"content": sealed, "sha256": hash_json(sealed)})
    write_file(seal_of(folder), text.encode())


def check_seal(folder: Path) -> SealContent:
    """Return the content of the seal of a folder.

    Raises:
      OSError: if there is none.
      ValueError: if it or a file of the folder is not what was written.
    """
    content = _read_seal(folder)
    found = _hash_files(folder)
    wrong = [name for name, sha in content.files.items() if found.get(name) != sha]
    if wrong:
        raise ValueError(f"{wrong[0]} must match its checksum, which it does not")
    return content


def _read_seal(folder: Path) -> SealContent:
    seal = seal_of(folder)
    sealed, raw = read_json(seal, Seal, "the seal of a checkpoint")
    if hash_json(raw["content"]) != sealed.sha256:
        raise ValueError(f"{seal.name} must match its own checksum, which it does not")
    return sealed.content


def find_versions(folder: Path) -> set[int]:
    """Return the versions that have a seal in a folder of checkpoints."""
    names = (seal.stem for seal in folder.glob("*.json"))
    return {int(name) for name in names if name.isdecimal()}


def find_scores(folder: Path) -> dict[int, float]:
    """Return the scores of the checkpoints in a folder, by version.

    A seal that is damaged or has no score counts as minus infinity.
    """
    scores = {}
    for version in find_versions(folder):
        try:
            score = _read_seal(folder / str(version)).score
        except (OSError, ValueError):
            score = None
        scores[version] = -np.inf if score is None else score
    return scores


def find_best(scores: Mapping[int, float]) -> int:
    """Return the version with the highest score; of several the oldest.

    >>> find_best({20: 0.5, 10: 0.5, 30: 0.1})
    10
    """
    return max(sorted(scores), key=scores.__getitem__)


def _hash_files(folder: Path) -> dict[str, str]:
    """Return checksums by path in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
