"""Damage to bytes, to JSON and to the kind of a file, drawn from a generator."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_DEEP = 100_000

Damage = Callable[[np.random.Generator, Path], str]


def damage_bytes(rng: np.random.Generator, path: Path) -> str:
    """Change some bytes of a file, and say how."""
    content = bytearray(path.read_bytes())
    size = len(content)
    how = str(rng.choice(["flip", "cut", "empty", "longer", "zeros", "noise"]))
    place = int(rng.integers(size)) if size else 0
    if how == "flip" and size:
        content[place] ^= 1 << int(rng.integers(8))
    elif how == "cut":
        del content[place:]
    elif how == "empty":
        content.clear()
    elif how == "zeros":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    elif how == "noise":
        content[place : place + 16] = rng.bytes(len(content[place : place + 16]))
    else:
        content += rng.bytes(int(rng.integers(1, 100)))
    path.write_bytes(content)
    return f"{path.name}: {how} at {place} of {size}"


def damage_kind(rng: np.random.Generator, path: Path) -> str:
    """Put something else in the place of a file or a folder, and say what."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    kinds: dict[str, Callable[[], object]] = {
        "missing": lambda: None,
        "a folder": path.mkdir,
        "a FIFO": lambda: os.mkfifo(path),
        "a link to itself": lambda: path.symlink_to(path.name),
        "a link to nothing": lambda: path.symlink_to("not-there"),
        "/dev/zero": lambda: path.symlink_to("/dev/zero"),
        "/dev/null": lambda: path.symlink_to("/dev/null"),
    }
    name = str(rng.choice(list(kinds)))
    kinds[name]()
    return f"{path.name}: {name}"


def damage_json(rng: np.random.Generator, path: Path) -> str:
    """Edit a JSON file, or a line of JSON lines, and say how."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".jsonl":
        number = int(rng.integers(len(lines)))
        lines[number], how = _edit(rng, lines[number])
        how = f"line {number + 1}, {how}"
        text = "\n".join(lines) + "\n"
    else:
        text, how = _edit(rng, "\n".join(lines))
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return f"{path.name}: {how}"


def _edit(rng: np.random.Generator, text: str) -> tuple[str, str]:
    """Return JSON with a change, and the change in words."""
    whole = {
        "nested": "[" * _DEEP,
        "nested and closed": "[" * _DEEP + "]" * _DEEP,
        "nested objects": '{"a":' * _DEEP + "1" + "}" * _DEEP,
        "null": "null",
        "a list": "[1, 2]",
        "a number": "17",
        "a string": '"word"',
        "an empty object": "{}",
        "a long number": "9" * 5000,
        "two values": text + text,
    }
    if rng.random() < 0.35:
        name = str(rng.choice(list(whole)))
        return whole[name], name
    content = json.loads(text)
    places = list(_list_places(content))
    if not places:
        return "null", "null"
    holder, key = places[int(rng.integers(len(places)))]
    if rng.random() < 0.15:
        del holder[key]
        return json.dumps(content), f"without {key}"
    values: list[Any] = [None, True, -1, 0, 7, 2**63, 10**400, 0.5, 1e308]
    values += [float("nan"), float("inf"), "", "word", "\ud800", [], {}, [[1]], "9" * 9]
    value = values[int(rng.integers(len(values)))]
    if rng.random() < 0.2 and isinstance(holder, dict):
        # The parser keeps the last of two keys that are alike.
        inner = json.dumps(key) + ": " + json.dumps(value)
        text = json.dumps(content)
        return f"{text[:-1]}, {inner}}}", f"{key} twice, then {value!r}"[:80]
    holder[key] = value
    return json.dumps(content), f"{key} = {value!r}"[:80]


def _list_places(content: Any) -> Any:
    """Yield every holder and key in JSON."""
    if isinstance(content, dict):
        keys: list[Any] = list(content)
    elif isinstance(content, list):
        keys = list(range(len(content)))
    else:
        return
    for key in keys:
        yield content, key
        yield from _list_places(content[key])
