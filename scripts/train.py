"""Compare FedAsync with its baselines on one data set and one fleet of clients.

Without a flag: handwritten digits, 100 clients, slow and fast ones. The results go into
a new folder under runs/. ``--preset NAME`` starts from other settings, ``--fleet NAME``
replaces the devices, ``--check`` tests every schedule for what must always hold.
``--resume RUN`` goes on with a run that was interrupted, or with more updates.
"""

import argparse
import collections
import datetime
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _devices
import jax
from _cli import fail, parse_flags
from _machine import device_peak_mb, host_peak_mb
from _results import describe_score, make_table
from _versions import describe_versions
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fedasync_jax import experiment, report, run_folder
from fedasync_jax.checkpoint import Checkpoints
from fedasync_jax.config import Settings
from fedasync_jax.data import summarize_label_counts
from fedasync_jax.presets import FLEETS, PRESETS, from_json, make_settings
from fedasync_jax.resume import check_goes_on, read_config
from fedasync_jax.trace import UNFINISHED

_WINDOW = 10.0  # seconds over which updates/s is taken


class Command(NamedTuple):
    """The command line.

    Attributes:
      preset: name of the settings it starts from.
      fleet: name of the devices that replace those of the preset; None: none.
      check: whether to test every schedule.
      settings: of the experiment.
    """

    preset: str
    fleet: str | None
    check: bool
    settings: Settings


def main() -> None:
    """Run the job."""
    _devices.use_all_cores()
    command = parse_command(sys.argv[1:])
    settings = command.settings
    console = Console()
    path = settings.run_dir or _new_run_dir(settings)
    try:
        check_goes_on(path, _describe(command))
        with console.status("reading data, making schedules, warming up"):
            built = experiment.build(settings)
        folder = run_folder.RunFolder(path, _describe(command))
    except ValueError as error:
        fail(error)
    _print_header(console, built, folder.path)
    _write_clients(folder, built)
    outcomes = _run_or_stop(console, built, folder)
    rows = report.summarize_all(outcomes)
    folder.write_summary(rows)
    console.print(make_table(rows))
    what = "perplexity" if built.workload.is_text else "accuracy"
    console.print(f"{what}: on the test set, of the last ten evaluations; d: staleness")
    console.print(_describe_memory(), highlight=False)
    _draw(console, folder.path)
    if command.check:
        _check(console, outcomes)


def parse_command(args: Sequence[str]) -> Command:
    """Return the command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="digits", nargs="?")
    parser.add_argument("--fleet", default=None, nargs="?", const="")
    parser.add_argument("--resume", default=None, nargs="?", const="")
    parser.add_argument("--check", action="store_true")
    known, rest = parser.parse_known_args(args)
    if known.resume is not None:
        return _resume(known, rest)
    flags = {arg.split("=")[0].replace("_", "-") for arg in rest}
    # A rho of the preset gives way to a gamma_rho of the user's, not one of the user's.
    overrides = {"rho": None} if "--gamma-rho" in flags else {}
    try:
        default = make_settings(known.preset, known.fleet, **overrides)
    except ValueError as error:
        fail(error)
    lines = [
        f"{flag} {name}: {preset.description}"
        for flag, presets in (("--preset", PRESETS), ("--fleet", FLEETS))
        for name, preset in presets.items()
    ]
    description = "\n\n".join([__doc__ or "", *lines])
    settings = parse_flags(Settings, description, args=rest, default=default)
    if known.fleet is not None and settings.schedule == "sampled":
        fail(
            f"fleet must not be given for schedule sampled, which has no clock, got "
            f"{known.fleet} (--schedule immediate has one)"
        )
    return Command(known.preset, known.fleet, known.check, settings)


def _resume(known: argparse.Namespace, args: Sequence[str]) -> Command:
    """Return the command line of a run that goes on."""
    try:
        config = read_config(known.resume)
        if known.preset != "digits" or known.fleet is not None:
            raise ValueError("preset and fleet must not be given to go on with a run")
        default = from_json(config["settings"], run_dir=Path(known.resume))
    except ValueError as error:
        fail(error)
    settings = parse_flags(Settings, __doc__ or "", args=args, default=default)
    return Command(config["preset"], config["fleet"], known.check, settings)


def _run_or_stop(
    console: Console, built: experiment.Experiment, folder: run_folder.RunFolder
) -> list[experiment.Outcome]:
    """Run all methods; when asked to stop or at an error, end the process."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: asked.append(number))
    try:
        return _run_all(console, built, folder, lambda: bool(asked))
    except experiment.Stopped as stop:
        console.print(
            f"{stop}; go on with: python scripts/train.py --resume {folder.path}",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(128 + asked[0])
    except (ValueError, OSError) as error:
        fail(error)


def _run_all(
    console: Console,
    built: experiment.Experiment,
    folder: run_folder.RunFolder,
    should_stop: Callable[[], bool],
) -> list[experiment.Outcome]:
    outcomes = []
    every = built.settings.checkpoint_every
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=6),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for method in built.methods:
            bar = _Bar(progress, method)

            def note(row: dict[str, Any], bar: _Bar = bar) -> None:
                folder.add_metrics(row)
                bar.show(row)

            where = folder.checkpoint_folder(method.name)
            with Checkpoints(where, every=every, on_skip=progress.print) as checkpoints:
                outcome = experiment.run_method(
                    built,
                    method,
                    on_row=note,
                    checkpoints=checkpoints,
                    should_stop=should_stop,
                )
            _write_outcome(folder, built, outcome)
            outcomes.append(outcome)
    return outcomes


def _write_clients(folder: run_folder.RunFolder, built: experiment.Experiment) -> None:
    workload = built.workload
    arrays = {"num_samples": workload.counts}
    if workload.label_counts is not None:
        arrays["label_counts"] = workload.label_counts
    folder.write_arrays("clients.npz", arrays)


def _write_outcome(
    folder: run_folder.RunFolder,
    built: experiment.Experiment,
    outcome: experiment.Outcome,
) -> None:
    method, lost = outcome.method, outcome.method.trace.lost
    is_lost = lost.reason != UNFINISHED
    others = {"lost": {k: v[is_lost] for k, v in lost._asdict().items()}}
    timeline = report.sample_timeline(built, method)
    if timeline is not None:
        others["timeline"] = timeline._asdict()
    final = outcome.result.state.variables
    folder.write_method(method.name, report.arrivals(outcome), final, **others)


def _check(console: Console, outcomes: Sequence[experiment.Outcome]) -> None:
    """Print what is wrong with the runs; end with exit code 1 if anything is."""
    lines = [line for outcome in outcomes for line in report.check(outcome)]
    for line in lines:
        console.print(f"violated: {line}", style="red", highlight=False, soft_wrap=True)
    if lines:
        sys.exit(1)
    tasks = sum(
        outcome.method.trace.num_updates + len(outcome.method.trace.lost.task)
        for outcome in outcomes
    )
    console.print(f"checked: {tasks:,} tasks, all in order", highlight=False)


class _Bar:
    """The progress bar of one method."""

    def __init__(self, progress: Progress, method: experiment.Method):
        self.progress = progress
        self.is_async = method.staleness_fn is not None
        self.task = progress.add_task(
            method.name, total=method.trace.num_updates, status="compiling"
        )
        self.recent = collections.deque([(0, time.perf_counter())])

    def show(self, row: dict[str, Any]) -> None:
        """Show a line of metrics."""
        self.recent.append((row["version"], time.perf_counter()))
        while self.recent[-1][1] - self.recent[0][1] > _WINDOW and len(self.recent) > 4:
            self.recent.popleft()
        (first, then), (last, now) = self.recent[0], self.recent[-1]
        rate = (last - first) / (now - then)
        status = describe_score(row)
        if self.is_async and row["mean_staleness"] is not None:
            status += f"  d {row['mean_staleness']:.1f}"
        if row["updates"]:
            status += f"  {_format_rate(rate)}/s"
        for what in ("lost", "rejected"):
            if row[what]:
                status = f"{row[what]:,} {what}  {status}"
        self.progress.update(self.task, completed=row["version"], status=status)


def _print_header(console: Console, built: experiment.Experiment, path: Path) -> None:
    settings, counts = built.settings, built.workload.counts
    devices = jax.devices()
    console.print(
        f"{built.workload.description}, {settings.num_clients} clients "
        f"with {counts.min()} to {counts.max()} of them; "
        f"{len(devices)} {devices[0].platform} device(s)",
        highlight=False,
        soft_wrap=True,
    )
    if built.workload.label_counts is not None:
        summary = summarize_label_counts(built.workload.label_counts)
        labels = summary.num_labels
        console.print(
            f"labels per client: {labels.minimum} to {labels.maximum}, median "
            f"{labels.median:g}; distance from the mix of all: "
            f"{summary.mean_distance:.2f} of 1",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"run folder: {path}", highlight=False, soft_wrap=True)
    for method in built.methods:
        for note in report.list_notes(method):
            console.print(
                f"note: {note}", style="yellow", highlight=False, soft_wrap=True
            )


def _format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _describe_memory() -> str:
    device = device_peak_mb()
    return f"peak memory {host_peak_mb():,.0f} MB" + (
        "" if device is None else f", of the first device {device:,.0f} MB"
    )


def _draw(console: Console, path: Path) -> None:
    try:
        from fedasync_jax import plotting
    except ModuleNotFoundError:
        console.print("no pictures: install the extra 'plots' (matplotlib)")
        return
    for picture in plotting.draw_run(path):
        console.print(f"wrote {picture}", highlight=False, soft_wrap=True)


def _describe(command: Command) -> dict[str, Any]:
    devices = jax.devices()
    return {
        "preset": command.preset,
        "fleet": command.fleet,
        "settings": command.settings.to_json(),
        "versions": describe_versions(),
        "devices": [str(devices[0].device_kind), devices[0].platform, len(devices)],
    }


def _new_run_dir(settings: Settings) -> Path:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / f"{settings.dataset}-{now}"


if __name__ == "__main__":
    main()
