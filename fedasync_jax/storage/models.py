"""Models on the disk, for other programs: safetensors, orbax, and how to load them.

``model.safetensors``   one tensor per leaf; its name is the path in the model
``orbax/``              the same leaves as an orbax checkpoint, a dictionary by name
``model.json``          what it is and how to load it, written last

A name is the path of the leaf, such as ``params/Dense_0/kernel`` or
``state/batch_stats/BatchNorm_0/mean``.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedasync_jax.base import PyTree, Variables
from fedasync_jax.storage.checksums import is_orbax

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
    import orbax.checkpoint as ocp
    from safetensors.numpy import save_file

    folder = Path(folder).absolute()
    arrays = {name: np.asarray(a, order="C") for name, a in name_leaves(model).items()}
    _make_room(folder)
    save_file(arrays, folder / "model.safetensors")
    with ocp.StandardCheckpointer() as writer:
        writer.save(folder / "orbax", arrays)
    leaves = {
        name: {"shape": array.shape, "dtype": str(array.dtype)}
        for name, array in arrays.items()
    }
    text = json.dumps({**(about or {}), "load_with": _HOW, "leaves": leaves}, indent=2)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


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
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_ours(path: Path) -> bool:
    if path.is_symlink():
        return False
    if path.name in ("model.json", "model.safetensors"):
        return path.is_file()
    return path.name.split(".")[0] == "orbax" and is_orbax(path)


def read_about(folder: str | Path) -> dict[str, Any] | None:
    """Return ``model.json`` of a model that was written to its end, else None."""
    path = Path(folder) / "model.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def load_model(folder: str | Path, like: PyTree = None) -> PyTree:
    """Load a model that ``save_model`` wrote.

    Args:
      folder: the folder.
      like: a model of the same structure, such as ``model.init(key)``; default:
        ``Variables`` of nested dictionaries, which is what flax modules have.

    Raises:
      ValueError: if there is no whole model, or it has other leaves than ``like``.

    Returns:
      A pytree of NumPy arrays.
    """
    arrays = _load_arrays(Path(folder))
    if like is None:
        nested = _nest(arrays)
        return Variables(nested.get("params", {}), nested.get("state", ()))
    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    wanted = {_name_leaf(path): np.shape(leaf) for path, leaf in paths}
    found = {name: array.shape for name, array in arrays.items()}
    if wanted != found:
        raise ValueError(
            f"like must have the leaves of {folder}, {_describe(found)}, "
            f"got {_describe(wanted)}"
        )
    return treedef.unflatten([arrays[name] for name in wanted])


def name_leaves(model: PyTree) -> dict[str, np.ndarray]:
    """Return the arrays of a model on the host, by their paths in the tree.

    >>> list(name_leaves(Variables({"w": np.zeros(2)})))
    ['params/w']
    """
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(model))
    return {_name_leaf(path): np.asarray(leaf) for path, leaf in leaves}


def _load_arrays(folder: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        leaves = json.loads((folder / "model.json").read_text("utf-8"))["leaves"]
        arrays = load_file(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"folder must hold a model (model.json, model.safetensors), got {folder} "
            f"({error})"
        ) from error
    if arrays.keys() != leaves.keys():
        raise ValueError(
            f"model.safetensors must hold the leaves of model.json in {folder}, "
            f"got {', '.join(sorted(arrays))}"
        )
    return arrays


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


def _name_leaf(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
