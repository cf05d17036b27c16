"""What a folder of runs holds, such as that of a sweep: every run, and their means."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from fedasync_jax.cli.sweep_table import make_sweep_table
from fedasync_jax.jobs.scores import describe_score
from fedasync_jax.jobs.tables import FinishedRun, read_finished, tabulate
from fedasync_jax.storage.config import read_config


class FoundRun(NamedTuple):
    """A run below a folder.

    Attributes:
      path: its folder.
      combination: name of the settings that its seeds share.
      num_methods: how many it is to run.
      run: what it has; None: it was only begun.
    """

    path: Path
    combination: str
    num_methods: int
    run: FinishedRun | None


def find_runs(folder: Path) -> list[FoundRun]:
    """Return the runs below a folder, one or two folders deep, by name.

    Raises:
      ValueError: if a file of one is damaged.
    """
    configs = [*folder.glob("*/config.json"), *folder.glob("*/*/config.json")]
    return [_read_run(folder, path.parent) for path in sorted(configs)]


def describe_sweep(folder: Path) -> Iterator[str]:
    """Yield what there is to say of a folder of runs, line by line.

    Raises:
      ValueError: if a file of a run is damaged.
    """
    found = find_runs(folder)
    num_done = sum(_is_whole(one) for one in found)
    yield f"{folder}: {len(found)} runs, {num_done} finished"
    for one in found:
        yield f"  {one.path.relative_to(folder)}: {_describe(one)}"
    runs = [one.run for one in found if one.run is not None]
    if any(run.finished for run in runs):
        shown, notes = make_sweep_table(tabulate(runs), ["settings"])
        text = io.StringIO()
        Console(file=text, width=200).print(shown)
        yield from (f"  {line.rstrip()}" for line in text.getvalue().splitlines())
        yield from (f"  {note}" for note in notes)
    if num_done < len(found):
        yield "  go on with the command that began it"


def _read_run(folder: Path, path: Path) -> FoundRun:
    settings = read_config(path)["settings"]
    is_seed = path.parent != folder
    combination = path.parent.name if is_seed else path.name
    metrics = path / "metrics.jsonl"
    is_begun = metrics.is_file() and metrics.stat().st_size > 0
    run = read_finished(path, {"settings": combination}) if is_begun else None
    return FoundRun(path, combination, len(settings.get("methods", ())), run)


def _is_whole(found: FoundRun) -> bool:
    return (found.path / "summary.json").is_file()


def _describe(found: FoundRun) -> str:
    state = "finished" if _is_whole(found) else "not finished"
    if found.run is None:
        return "only begun"
    ended = [
        f"{method} {describe_score(rows[-1])}"
        for method, rows in found.run.metrics.items()
        if method in found.run.finished
    ]
    return ", ".join([state, *ended])
