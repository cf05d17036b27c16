"""What a run folder holds: what the run is, how far it came, and whether it goes on."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedasync_jax.cli.flags import name_program
from fedasync_jax.experiment.presets import from_json, make_settings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.jobs.scores import describe_score
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage import read_run, run_folder
from fedasync_jax.storage.checksums import find_best, find_scores
from fedasync_jax.storage.config import compare_origins, read_config
from fedasync_jax.storage.lock import find_writer


def describe_run(run_dir: Path) -> Iterator[str]:
    """Yield what there is to say of a run, line by line.

    Raises:
      ValueError: if it is not the folder of a run.
    """
    config = read_config(run_dir, name="summary", kind="a run folder")
    settings = from_json(config["settings"], run_dir=run_dir)
    if "preset" not in config:
        raise ValueError(f"summary must be a run folder, got {run_dir}")
    fleet = f", fleet {config['fleet']}" if config.get("fleet") else ""
    yield f"{run_dir}: preset {config['preset']}{fleet}, {settings.data.dataset}"
    yield f"  settings: {_describe_settings(config, settings)}"
    versions = ", ".join(f"{k} {v}" for k, v in config.get("versions", {}).items())
    yield f"  software: {versions}, revision {config.get('revision') or 'unknown'}"
    kind, platform, count = config.get("devices") or ("unknown", "unknown", 0)
    yield f"  devices: {count} x {kind} ({platform})"
    yield from _describe_sittings(config.get("sittings", []))
    writer = find_writer(run_dir)
    yield f"  now: {'written to by ' + writer if writer else 'nobody writes to it'}"
    for name, rows in _read_rows(run_dir).items():
        yield f"  {_describe_method(run_dir, name, rows, settings)}"
    is_whole = (run_dir / "summary.json").is_file()
    if not is_whole and not writer:
        yield f"  resume with: {name_program()} --resume {run_dir}"


def _describe_sittings(sittings: list[dict[str, Any]]) -> Iterator[str]:
    """Yield where the run went on, and with what other software."""
    for before, sitting in itertools.pairwise(sittings):
        begins = sitting.get("begins", {}).items()
        places = ", ".join(f"{name} at {version:,}" for name, version in begins)
        changes = compare_origins(before, sitting) or "the same software and devices"
        yield f"  went on: {places or 'nothing was left'}, with {changes}"


def _describe_settings(config: dict[str, Any], settings: Settings) -> str:
    """Return the settings that are not those of the preset and the fleet."""
    usual = make_settings(config["preset"], config["fleet"])
    changed = [
        f"{name} {_format(value)}"
        for name, value in settings.flat().items()
        if value != usual[name] and name != "run_dir"
    ]
    return ", ".join(changed) or "those of the preset"


def _format(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read_rows(run_dir: Path) -> dict[str, list[run_folder.Row]]:
    path = run_dir / "metrics.jsonl"
    if not path.exists() or not path.stat().st_size:
        return {}  # it was only begun
    return read_run.read_metrics(run_dir)


def _describe_method(
    run_dir: Path, name: str, rows: list[run_folder.Row], settings: Settings
) -> str:
    last = dict(rows[-1])
    folder = run_dir / slugify(name)
    is_done = (folder / "model" / "model.json").is_file()
    scores = find_scores(folder / "checkpoints")
    place = f"version {last['version']:,}"
    if last["updates"] is not None:
        place = f"{last['version']:,} of {settings.run.num_updates:,} updates"
    parts = [f"{'finished' if is_done else 'not finished'}, {place}"]
    parts.append(describe_score(last))
    if last["virtual_time"] is not None:
        parts.append(f"{last['virtual_time']:,.0f} simulated s")
    parts += [f"{last[w]:,} {w}" for w in ("rejected", "lost") if last[w]]
    if scores:
        newest, best = max(scores), find_best(scores)
        parts.append(f"checkpoints up to {newest:,}, the best of {best:,}")
    return f"{name}: {', '.join(parts)}"
