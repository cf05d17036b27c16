"""What the page says of a run in words: how far it is, its settings, how to run it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.experiment.presets import FLEETS, PRESETS, make_settings
from fedasync_jax.experiment.settings import PARTS, Settings, name_parts
from fedasync_jax.jobs.tables import read_finished
from fedasync_jax.plotting.contents import Contents, read_contents
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.lock import find_writer
from fedasync_jax.storage.read_run import read_summary
from fedasync_jax.storage.run_folder import Row

_OTHER = "other"  # of parts that are not loaded


class RunFacts(NamedTuple):
    """A run, read for the page.

    Attributes:
      path: its folder.
      config: see ``read_config``.
      contents: what can be drawn.
      summary: lines of the final table by method, as far as it was written.
      finished: methods that came to their end.
      writer: which process writes to it; None: none does.
    """

    path: Path
    config: Mapping[str, Any]
    contents: Contents
    summary: Mapping[str, Row]
    finished: frozenset[str]
    writer: str | None

    @property
    def is_over(self) -> bool:
        """Whether nothing is to come, even of methods that ended early."""
        return bool(self.summary) and self.writer is None

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its settings by their flat names, as JSON has them."""
        return self.config["settings"]


def read_facts(path: Path) -> RunFacts:
    """Read a run folder.

    Raises:
      ValueError: if it is none, it has no evaluation yet, or a file cannot be read.
    """
    config = read_config(path, name="run_dirs", kind="run folders")
    metrics = path / "metrics.jsonl"
    if not metrics.is_file() or not metrics.stat().st_size:
        raise ValueError(
            f"report needs a run with an evaluation, got {path}, which has none yet "
            "(try again when it has begun to train)"
        )
    finished = frozenset(read_finished(path, {}).finished)
    summary = {row["method"]: row for row in read_summary(path)}
    return RunFacts(
        path, config, read_contents(path), summary, finished, find_writer(path)
    )


def describe_progress(run: RunFacts) -> Iterator[str]:
    """Yield what is missing of a run, a line each; nothing if it is finished."""
    rows = run.contents.rows
    left = [method for method in rows if method not in run.finished]
    asked = len(
        (run.config.get("own", {}) and rows) or run.settings.get("methods", rows)
    )
    if not left and len(rows) >= asked:
        return
    total = run.settings.get("num_updates")
    for method in left:
        last = rows[method][-1]
        place = f"version {last['version']:,}"
        if last["updates"] is not None and total:
            place = f"{last['updates']:,} of {total:,} updates"
        yield f"{method} {'ended early' if run.is_over else 'is'} at {place}."
    if len(rows) < asked:
        count = asked - len(rows)
        yield f"{count} of {asked} methods {'has' if count == 1 else 'have'} not begun."
    if run.writer is not None:
        yield f"It is written to by {run.writer}: make the page again to see more."
    elif not run.is_over:
        yield f"Go on with: {resume_line(run)}"


def resume_line(run: RunFacts) -> str:
    """Return the command that goes on with a run."""
    return shlex.join(["fedasync", "train", "--resume", str(run.path)])


def repeat_line(run: RunFacts) -> str | None:
    """Return the command that makes a run again; None if no command can."""
    config = run.config
    if "preset" not in config or config.get("own"):
        return None
    words = ["fedasync", "train", "--preset", str(config["preset"])]
    if config.get("fleet"):
        words += ["--fleet", str(config["fleet"])]
    usual = usual_settings(config)
    for name, value in run.settings.items():
        if name != "run_dir" and value != usual.get(name, value):
            words += _make_flag(name, value)
    return shlex.join(words)


def usual_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the preset and the fleet that a run began with."""
    preset, fleet = str(config.get("preset")), config.get("fleet")
    if preset not in PRESETS or fleet not in {None, *FLEETS}:
        return _as_json(Settings())
    return _as_json(make_settings(preset, fleet))


def group_settings(names: Sequence[str]) -> dict[str, list[str]]:
    """Return names of settings by the part that they belong to."""
    parts = name_parts()
    groups: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in names:
        groups.setdefault(parts.get(name, _OTHER), []).append(name)
    return {part: own for part, own in groups.items() if own}


def _as_json(settings: Settings) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in settings.to_json().items()
    }


def _make_flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    values = value if isinstance(value, list) else [value]
    return [f"--{flag}", *map(str, values)]
