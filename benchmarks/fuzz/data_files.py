"""Data files at random: damaged bytes, wrong kinds, labels that are identifiers."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz.base import NUM_CLIENTS, Base, flatten, small_words
from benchmarks.fuzz.case import Case
from benchmarks.fuzz.damage import damage_bytes, damage_kind

Flags = dict[str, tuple[str, ...]]


def draw_data_file(rng: np.random.Generator, base: Base, folder: Path) -> Case:
    """Return a case in which a run is given a damaged data file."""
    draws: dict[str, tuple[Callable[..., tuple[Flags, str]], float]] = {
        "npz": (_draw_npz, 0.5),
        "speeds": (_draw_speeds, 0.2),
        "windows": (_draw_windows, 0.2),
        "text": (_draw_text, 0.1),
    }
    name = rng.choice(list(draws), p=[share for _, share in draws.values()])
    small = small_words(base.data) | {"--methods": ("fedasync-polynomial",)}
    flags, damage = draws[str(name)][0](rng, base, folder)
    words = ("train", *flatten({**small, **flags, "--run-dir": ("run",)}))
    return Case(words, damage)


def _draw_npz(rng: np.random.Generator, base: Base, folder: Path) -> tuple[Flags, str]:
    path = folder / "data.npz"
    flags: Flags = {"--data-path": ("data.npz",)}
    if rng.random() < 0.5:
        flags["--partition"] = (str(rng.choice(["natural", "dirichlet", "shards"])),)
    path.write_bytes((base.data / "data.npz").read_bytes())
    kind = rng.random()
    if kind < 0.3:
        return flags, damage_bytes(rng, path)
    if kind < 0.4:
        return flags, damage_kind(rng, path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if kind < 0.5:
        return flags, _forge_header(rng, path, arrays)
    name, how = _change_array(rng, arrays)
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return flags, f"{name}: {how}"


def _change_array(rng: np.random.Generator, arrays: dict[str, Any]) -> tuple[str, str]:
    """Change one of the arrays; return its name and what was done."""
    name = str(rng.choice(list(arrays)))
    old = arrays[name]
    size = len(old)
    of_any: dict[str, Callable[[], Any]] = {
        "float16": lambda: np.zeros(old.shape, np.float16),
        "complex": lambda: np.zeros(old.shape, complex),
        "objects": lambda: np.array([{"a": 1}] * size, object),
        "strings": lambda: np.array(["word"] * size),
        "bytes": lambda: np.array([b"\xff"] * size),
        "bool": lambda: np.ones(old.shape, bool),
        "times": lambda: np.zeros(old.shape, "datetime64[s]"),
        "records": lambda: np.zeros(size, [("a", int), ("b", float)]),
        "longdouble": lambda: np.zeros(old.shape, np.longdouble),
        "uint64": lambda: np.full(old.shape, 2**64 - 1, np.uint64),
        "scalar": lambda: np.float32(1),
        "empty": lambda: old[:0],
        "one": lambda: old[:1],
        "longer": lambda: np.concatenate([old, old]),
        "one axis more": lambda: old[..., None],
        "one axis less": lambda: old.reshape(-1),
        "no columns": lambda: old.reshape(size, -1)[:, :0],
        "Fortran order": lambda: np.asfortranarray(old),
        "big-endian": lambda: old.astype(old.dtype.newbyteorder(">")),
    }
    of_samples = {
        "NaN": lambda: _put(rng, old, np.nan),
        "infinity": lambda: _put(rng, old, np.inf),
        "1e38": lambda: _put(rng, old, 1e38),
        "1e300": lambda: _put(rng, old.astype(float), 1e300),
        "uint8": lambda: np.zeros(old.shape, np.uint8),
        "all the same": lambda: np.ones_like(old),
    }
    of_labels = {
        "identifiers": lambda: rng.integers(0, 2**40, size),
        "large identifiers": lambda: rng.integers(2**62, 2**63 - 1, size),
        "small identifiers": lambda: rng.integers(0, 10**6, size),
        "years": lambda: rng.integers(1900, 2030, size),
        "negative": lambda: -rng.integers(1, 5, size),
        "real": lambda: rng.normal(size=size),
        "whole in floats": lambda: rng.integers(0, 3, size).astype(float),
        "one class": lambda: np.zeros(size, np.int64),
        "one too large": lambda: np.append(old[:-1], 2**31 - 2),
        "one-hot": lambda: np.eye(3)[old],
    }
    of_keys = {
        "all different": lambda: np.arange(size),
        "one client": lambda: np.zeros(size, int),
        "NaN": lambda: np.full(size, np.nan),
        "floats": lambda: np.arange(size) / 2,
        "unicode": lambda: np.array([f"☃{n % 3}\ud7ff" for n in range(size)]),
        "long strings": lambda: np.array(["x" * 100_000] * size),
        "empty strings": lambda: np.array([""] * size),
    }
    own = {"x": of_samples, "y": of_labels, "c": of_keys}[name[0]]
    changes: dict[str, Callable[[], Any]] = own if rng.random() < 0.6 else of_any
    how = str(rng.choice([*changes, "missing"]))
    if how == "missing":
        del arrays[name]
    else:
        arrays[name] = changes[how]()
    return name, how


def _put(rng: np.random.Generator, array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.reshape(-1)[rng.integers(array.size)] = value
    return changed


def _forge_header(rng: np.random.Generator, path: Path, arrays: dict[str, Any]) -> str:
    """Write an array whose header promises something else; the checksum is right."""
    name = str(rng.choice(list(arrays)))
    headers = {
        "an unknown shape": _describe("<f4", "(10**12,)"),
        "a huge shape": _describe("<f4", "(1000000000000, 6)"),
        "an overflowing shape": _describe("<f8", "(4611686018427387904, 4)"),
        "a negative shape": _describe("<f4", "(-1, 6)"),
        "objects": _describe("|O", "(100,)"),
        "no dtype": _describe("nope", "(100,)"),
        "a void": _describe("|V0", "(100,)"),
        "an empty dtype": _describe("", "(100,)"),
        "no dictionary": "[1, 2, 3]",
        "code": "__import__('os').system('echo hello')",
        "many brackets": "(" * 5000 + ")" * 5000,
        "NUL": "\x00\x00\x00",
    }
    how = str(rng.choice(list(headers)))
    text = headers[how].encode() + b"\n"
    forged = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    forged += np.asarray(arrays[name]).tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        for other, array in arrays.items():
            stream = io.BytesIO()
            np.save(stream, array)
            content = forged if other == name else stream.getvalue()
            archive.writestr(f"{other}.npy", content)
    return f"{name}: header of {how}"


def _describe(dtype: str, shape: str) -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}"


def _draw_speeds(
    rng: np.random.Generator, base: Base, folder: Path
) -> tuple[Flags, str]:
    columns: dict[str, Any] = {
        "client": np.arange(NUM_CLIENTS),
        "seconds_per_step": np.linspace(0.5, 2.0, NUM_CLIENTS),
    }
    path, damage = _damage_table(rng, base, folder, "speeds.csv", columns)
    return {"--speeds-path": (path,)}, damage


def _draw_windows(
    rng: np.random.Generator, base: Base, folder: Path
) -> tuple[Flags, str]:
    client = np.repeat(np.arange(NUM_CLIENTS), 40)
    start = np.tile(10.0 * np.arange(40), NUM_CLIENTS)
    columns: dict[str, Any] = {"client": client, "start": start, "end": start + 5}
    path, damage = _damage_table(rng, base, folder, "windows.csv", columns)
    flags: Flags = {"--availability": ("replay",), "--availability-path": (path,)}
    if rng.random() < 0.5:
        flags["--when-away"] = ("lose",)
    return flags, damage


def _damage_table(
    rng: np.random.Generator,
    base: Base,
    folder: Path,
    name: str,
    columns: dict[str, Any],
) -> tuple[str, str]:
    """Write a damaged table; return its name and what is wrong with it."""
    kind = rng.random()
    if kind < 0.3:
        path = (folder / name).with_suffix(".parquet")
        return path.name, _damage_parquet(rng, path, columns)
    path = folder / name
    path.write_bytes((base.data / name).read_bytes())
    if kind < 0.45:
        return name, damage_bytes(rng, path)
    if kind < 0.55:
        return name, damage_kind(rng, path)
    if kind < 0.62:
        path = path.rename(f"{path}{rng.choice(['.gz', '.xz', '.parquet'])}")
        return path.name, f"{path.name}: not what its name says"
    return name, _damage_cells(rng, path)


def _damage_cells(rng: np.random.Generator, path: Path) -> str:
    """Change a cell, a line or the whole text of a CSV file."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    cells = ("", "nan", "inf", "-1", "1e400", "1e308", "1e-320", "0", "☃", "1;2", '"')
    cells += ("99999999999999999999", "x" * 200_000, "\x00", " 1 ", "1_0", "0x1", "2.5")
    column, row = int(rng.integers(len(rows[0]))), int(rng.integers(len(rows)))
    kind = rng.random()
    if kind < 0.5:
        value = str(rng.choice(cells))
        rows[row][column] = value
        how = f"row {row}, column {column}: {value[:20]!r}"
    elif kind < 0.65:
        value = str(rng.choice(cells))
        for other in rows[1:]:
            other[column] = value
        how = f"column {column}: all {value[:20]!r}"
    elif kind < 0.75:
        rows.insert(row, rows[row])
        how = f"row {row} twice"
    elif kind < 0.85:
        del rows[row]
        how = f"without row {row}"
    elif kind < 0.92:
        del rows[1:]
        how = "the header alone"
    else:
        rows = [[*row, *row] for row in rows]
        how = "all columns twice"
    text = "\n".join(",".join(row) for row in rows)
    path.write_text(text, encoding=str(rng.choice(["utf-8", "utf-16"])))
    return f"{path.name}: {how}"


def _damage_parquet(
    rng: np.random.Generator, path: Path, columns: dict[str, Any]
) -> str:
    import pyarrow
    from pyarrow import parquet

    size = len(columns["client"])
    values = {
        "strings": ["word"] * size,
        "numbers as strings": ["1"] * size,
        "lists": [[1.0]] * size,
        "nulls": [None] * size,
        "a null": [None, *np.arange(1.0, size)],
        "NaN": [float("nan")] * size,
        "bool": [True] * size,
        "times": np.zeros(size, "datetime64[s]"),
        "records": [{"a": 1}] * size,
        "bytes": [b"\xff"] * size,
        "large": np.full(size, 2**63 - 1),
        "good": None,
        "missing": None,
    }
    name, how = str(rng.choice(list(columns))), str(rng.choice(list(values)))
    if how == "missing":
        del columns[name]
    elif how != "good":
        columns[name] = values[how]
    parquet.write_table(pyarrow.table(columns), path)
    damage = f"{path.name}: {name} {how}"
    if how == "good":
        damage = damage_bytes(rng, path)
    return damage


def _draw_text(rng: np.random.Generator, base: Base, folder: Path) -> tuple[Flags, str]:
    path = folder / "input.txt"
    path.write_bytes((base.data / "input.txt").read_bytes())
    damage = damage_bytes if rng.random() < 0.6 else damage_kind
    how = damage(rng, path)
    if rng.random() < 0.2 and path.is_file() and not path.is_symlink():
        path = path.rename(f"{path}{rng.choice(['.gz', '.xz'])}")
    return {
        "--dataset": ("shakespeare",),
        "--data-path": (".",),
        "--partition": ("natural",),
        "--model": ("lstm",),
        "--lstm-size": ("4",),
        "--window": ("20",),
    }, how
