"""``config.json``: what a run is, and in which sittings it was made.

It holds the settings by their flat names, the software and the devices that began the
run, a record of every sitting (see ``schema.Sitting``), the fingerprint (see
``fingerprint``), and a checksum of all that: a file that was edited or damaged is not
believed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedasync_jax.storage.schema import Config, Json, hash_json, read_json
from fedasync_jax.storage.writing import write_file

_NAME = "config.json"
_CHECKSUM = "sha256"
_ORIGIN = ("versions", "revision", "devices")


def write_config(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json``, with its checksum.

    Raises:
      OSError: if it cannot be written.
    """
    content = json.loads(json.dumps(config))  # as it will be read: lists for tuples
    content.pop(_CHECKSUM, None)
    text = json.dumps({**content, _CHECKSUM: hash_json(content)}, indent=2)
    write_file(run_dir / _NAME, f"{text}\n".encode())


def read_config(
    run_dir: str | Path,
    *,
    name: str = "run_dir",
    kind: str = "a new folder or a run with config.json",
) -> Json:
    """Read ``config.json``; one that an earlier version wrote has no checksum.

    Args:
      run_dir: the run folder.
      name: what the caller calls it, for errors.
      kind: what it must be, for errors.

    Raises:
      ValueError: if there is no such file, it is not the config of a run, or it was
        changed since it was written.

    Returns:
      All that it holds; ``schema.Config`` says what is sure to be there.
    """
    path = Path(run_dir) / _NAME
    try:
        _, content = read_json(path, Config, "the config of a run")
        checksum = content.pop(_CHECKSUM, None)
        settings = content["settings"]  # a run without any is none of ours
    except PermissionError as error:
        raise ValueError(
            f"{name} must be a folder that can be read, got {run_dir} "
            f"({error.strerror})"
        ) from error
    except (OSError, KeyError) as error:
        raise ValueError(f"{name} must be {kind}, got {run_dir}") from error
    is_old = checksum is None and "sittings" not in content
    if not is_old and checksum != hash_json(content):
        raise ValueError(
            f"{path} must be as the run wrote it, but its checksum differs: it was "
            "edited or damaged"
        )
    return {**content, "settings": dict(settings)}


def origin_of(config: Mapping[str, Any]) -> Json:
    """Return what made a run or a sitting of it, see ``schema.Origin``."""
    return {name: config[name] for name in _ORIGIN if name in config}


def compare_origins(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return which software and devices differ, in words; empty: none do."""
    old, new = before.get("versions", {}), now.get("versions", {})
    changes = [
        f"{name} {new[name]} instead of {old[name]}"
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]
    kinds = [list(origin.get("devices") or ()) for origin in (before, now)]
    if all(kinds) and kinds[0] != kinds[1]:
        was, here = (f"{kind[2]} x {kind[0]} ({kind[1]})" for kind in kinds)
        changes.append(f"{here} instead of {was}")
    return ", ".join(changes)
