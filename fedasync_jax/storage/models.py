"""Models on the disk, for other programs: safetensors, orbax, and how to load them.

``model.safetensors``   one tensor per leaf; its name is the path in the model
``orbax/``              the same leaves as an orbax checkpoint, a dictionary by name
``model.json``          what it is and how to load it, written last

A name is the path of the leaf, such as ``params/Dense_0/kernel`` or
``state/batch_stats/BatchNorm_0/mean``. ``model.json`` has the structure of the model, a
checksum of ``model.safetensors`` and one of its own content; those that older versions
wrote have none of the three.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.base import PyTree, Variables
from fedasync_jax.parts.files import open_regular
from fedasync_jax.storage.orbax_folders import is_orbax, list_foreign, remove_orbax
from fedasync_jax.storage.schema import ModelInfo, hash_json, read_json
from fedasync_jax.storage.snapshots import open_orbax
from fedasync_jax.storage.structure import (
    build_structure,
    describe_structure,
    name_leaves,
    name_paths,
)
from fedasync_jax.storage.writing import check_room, write_file

_SEALED = {"format", "structure", "safetensors_sha256", "sha256"}  # all or none
_WHAT = "JSON that tells of a model"
_MARK = {"made_by": "fedasync_jax"}  # in the file of tensors
_SCRATCH = (".model.json", ".model.safetensors")  # while they are being written

_HOW = {
    "fedasync_jax": "fedasync_jax.load_model(folder)",
    "safetensors": "safetensors.numpy.load_file('model.safetensors')",
    "orbax": "orbax.checkpoint.StandardCheckpointer().restore(absolute path of orbax)",
}


def save_model(
    folder: str | Path, model: PyTree, about: Mapping[str, Any] | None = None
) -> None:
    """Write a model; one that is there already is replaced.

    Args:
      folder: for the three files.
      model: ``Variables`` or another pytree of arrays.
      about: what else ``model.json`` should say, as JSON has it.

    Raises:
      OSError: if it cannot be written.
      ValueError: if the folder holds anything but an earlier model.
    """
    from safetensors.numpy import save

    folder = Path(folder).absolute()
    arrays = {name: np.asarray(a, order="C") for name, a in name_leaves(model).items()}
    _make_room(folder)
    tensors = save(arrays, _MARK)
    check_room(folder / "orbax", 2 * len(tensors))
    write_file(folder / "model.safetensors", tensors)
    with open_orbax() as writer:
        writer.save(folder / "orbax", arrays)
    leaves = {
        name: {"shape": array.shape, "dtype": str(array.dtype)}
        for name, array in arrays.items()
    }
    content = {
        **(about or {}),
        "load_with": _HOW,
        "leaves": leaves,
        "format": 2,
        "structure": describe_structure(model),
        "safetensors_sha256": hashlib.sha256(tensors).hexdigest(),
    }
    content = json.loads(json.dumps(content))  # as it will be read
    content.pop("sha256", None)
    text = json.dumps({**content, "sha256": hash_json(content)}, indent=2)
    write_file(folder / "model.json", f"{text}\n".encode())


def _make_room(folder: Path) -> None:
    """Make the folder, or remove an earlier model from it, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    foreign = sorted(p.name for p in folder.iterdir() if not _is_ours(p))
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise ValueError(
            f"folder must be empty or hold an earlier model alone, got {folder} with "
            f"{shown}"
        )
    (folder / "model.json").unlink(missing_ok=True)  # first: what is left is no model
    for path in folder.iterdir():
        remove_orbax(path) if path.is_dir() else path.unlink()


def remove_model(folder: Path) -> None:
    """Remove a model and its folder.

    Raises:
      ValueError: if the folder holds anything else.
    """
    _make_room(folder)
    folder.rmdir()


def _is_ours(path: Path) -> bool:
    """Return whether a file or folder is part of a model, by what it holds."""
    if path.is_symlink():
        return False
    if path.name == "orbax" or path.name.startswith("orbax."):
        is_known = is_orbax(path) or (path.is_dir() and not any(path.iterdir()))
        return is_known and not list_foreign(path)
    if path.name in _SCRATCH:
        return path.is_file()
    try:
        if path.name == "model.json":
            read_json(path, ModelInfo, _WHAT)
            return True
        return path.name == "model.safetensors" and _is_marked(path)
    except (OSError, ValueError):
        return False


def _is_marked(path: Path) -> bool:
    """Return whether a file of tensors says that we made it, or ``model.json`` does."""
    from safetensors import SafetensorError, safe_open

    if _is_ours(path.with_name("model.json")):
        return True  # those of earlier versions say nothing themselves
    try:
        with safe_open(path, "np") as file:
            return (file.metadata() or {}).items() >= _MARK.items()
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def read_about(folder: str | Path) -> dict[str, Any] | None:
    """Return ``model.json`` of a model that was written to its end, else None.

    Raises:
      OSError: if it cannot be read.
      ValueError: in one line, if it is damaged.
    """
    path = Path(folder) / "model.json"
    try:
        info, about = read_json(path, ModelInfo, _WHAT)
    except FileNotFoundError:
        return None
    content = {key: value for key, value in about.items() if key != "sha256"}
    is_old = not _SEALED & about.keys()
    if not is_old and info.sha256 != hash_json(content):
        raise ValueError(f"{path} must match its checksum, which it does not")
    return about


def check_tensors(folder: Path, about: Mapping[str, Any]) -> None:
    """Refuse a damaged ``model.safetensors``; those of old versions cannot be checked.

    Args:
      folder: of the model.
      about: its ``model.json``.

    Raises:
      OSError: if there is no such file.
      ValueError: if it is not what was written, in a line that names it.
    """
    path = folder / "model.safetensors"
    with open_regular(path) as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if about.get("safetensors_sha256", found) != found:
        raise ValueError(f"{path} must match its checksum, which it does not")


def load_model(folder: str | Path, like: PyTree = None) -> PyTree:
    """Load a model that ``save_model`` wrote.

    Args:
      folder: the folder.
      like: a model of the same structure, such as ``model.init(key)``; default: the
        structure that was saved. It is needed for models with nodes other than
        ``Variables``, dictionaries, lists and tuples.

    Raises:
      ValueError: in one line, if there is no whole model, a file is damaged, or it has
        other leaves than ``like``.

    Returns:
      A pytree of NumPy arrays.
    """
    about, arrays = _load(Path(folder))
    if like is None:
        if about.get("structure") is not None:
            return build_structure(about["structure"], arrays)
        nested = _nest(arrays)  # as older versions wrote it
        return Variables(nested.get("params", {}), nested.get("state", ()))
    names, treedef = name_paths(like)
    shapes = [np.shape(leaf) for leaf in treedef.flatten_up_to(like)]
    wanted = dict(zip(names, shapes, strict=True))
    found = {name: array.shape for name, array in arrays.items()}
    if wanted != found:
        raise ValueError(
            f"like must have the leaves of {folder}, {_describe(found)}, "
            f"got {_describe(wanted)}"
        )
    return treedef.unflatten([arrays[name] for name in wanted])


def _load(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what ``model.json`` says, and the arrays by name."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        about = read_about(folder)
        if about is None:
            raise ValueError("no model.json")
        leaves = about["leaves"].keys()
        check_tensors(folder, about)
        arrays = load_file(folder / "model.safetensors")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        SafetensorError,
    ) as error:
        raise ValueError(
            f"folder must hold a model (model.json, model.safetensors), got {folder} "
            f"({error})"
        ) from error
    if arrays.keys() != leaves:
        raise ValueError(
            f"model.safetensors must hold the leaves of model.json in {folder}, "
            f"got {', '.join(sorted(arrays))}"
        )
    return about, arrays


def _nest(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return dictionaries in dictionaries, by the parts of the names."""
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = array
    return nested


def _describe(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
