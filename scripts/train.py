"""Compare FedAsync with its baselines on one data set and one fleet of clients.

Without a flag: handwritten digits, 100 clients, slow and fast ones. The results go into
a new folder under runs/. ``--preset NAME`` starts from other settings:
"""

import argparse
import collections
import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _devices
import jax
from _cli import fail, parse_flags
from _machine import device_peak_mb, host_peak_mb
from _versions import describe_versions
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fedasync_jax import experiment, run_folder
from fedasync_jax.config import Settings
from fedasync_jax.presets import PRESETS, make_settings

_WINDOW = 10.0  # seconds over which updates/s is taken


def main() -> None:
    """Run the job."""
    _devices.use_all_cores()
    preset, settings = parse_settings(sys.argv[1:])
    console = Console()
    path = settings.run_dir or _new_run_dir(settings)
    try:
        run_folder.require_new(path)
        with console.status("reading data, making schedules, warming up"):
            built = experiment.build(settings)
        folder = run_folder.RunFolder(path, _describe(preset, settings))
    except ValueError as error:
        fail(error)
    _print_header(console, built, folder.path)
    outcomes = _run_all(console, built, folder)
    rows = [experiment.summarize(outcome) for outcome in outcomes]
    folder.write_summary(rows)
    console.print(_make_table(rows))
    what = "perplexity" if built.workload.is_text else "accuracy"
    console.print(f"{what}: on the test set, of the last ten evaluations; d: staleness")
    console.print(_describe_memory(), highlight=False)
    _draw(console, folder.path)


def parse_settings(args: Sequence[str]) -> tuple[str, Settings]:
    """Return the preset's name and the settings."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="digits", nargs="?")
    known, rest = parser.parse_known_args(args)
    flags = {arg.split("=")[0].replace("_", "-") for arg in rest}
    # A rho of the preset gives way to a gamma_rho of the user's, not one of the user's.
    overrides = {"rho": None} if "--gamma-rho" in flags else {}
    try:
        default = make_settings(known.preset, **overrides)
    except ValueError as error:
        fail(error)
    lines = [f"{name}: {preset.description}" for name, preset in PRESETS.items()]
    description = "\n\n".join([__doc__ or "", *lines])
    return known.preset, parse_flags(Settings, description, args=rest, default=default)


def _run_all(
    console: Console, built: experiment.Experiment, folder: run_folder.RunFolder
) -> list[experiment.Outcome]:
    outcomes = []
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

            outcome = experiment.run_method(built, method, on_row=note)
            final = outcome.result.state.variables
            folder.write_method(method.name, experiment.arrivals(outcome), final)
            outcomes.append(outcome)
    return outcomes


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
        status = _describe_score(row)
        if self.is_async and row["mean_staleness"] is not None:
            status += f"  d {row['mean_staleness']:.1f}"
        if row["updates"]:
            status += f"  {_format_rate(rate)}/s"
        if row["rejected"]:
            status = f"{row['rejected']} rejected  {status}"
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
    console.print(f"run folder: {path}", highlight=False, soft_wrap=True)
    for method in built.methods:
        warning = experiment.warn_of_staleness(method)
        if warning:
            console.print(
                f"note: {warning}", style="yellow", highlight=False, soft_wrap=True
            )


def _make_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    rejected = any(row["rejected"] for row in rows)
    is_text = "test_perplexity_mean" in rows[0]
    table.add_column("method", no_wrap=True)
    for name in (
        "gradi-\nents",
        "virtual\ntime",
        *(("perplexity\nmean", "\nmax") if is_text else ("accuracy\nmean", "\nmin")),
        "mean\nd",
        "mean\nalpha_t",
        *(["rejec-\nted"] if rejected else []),
        "wall\ntime",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            row["method"],
            f"{row['gradients']:,}",
            _format(row["virtual_time"], ",.0f", " s"),
            *_format_scores(row),
            _format(row["mean_staleness"], ".1f"),
            _format(row["mean_alpha"], ".3f"),
            *([str(row["rejected"])] if rejected else []),
            f"{row['wall_seconds']:.1f} s",
        ]
        table.add_row(*cells)
    return table


def _describe_score(row: dict[str, Any]) -> str:
    if "test_perplexity" in row:
        return f"perplexity {_format(row['test_perplexity'], ',.1f')}"
    return f"accuracy {row['test_accuracy']:.1%}"


def _format_scores(row: dict[str, Any]) -> list[str]:
    """Return mean and worst."""
    if "test_perplexity_mean" in row:
        names = ("test_perplexity_mean", "test_perplexity_max")
        return [_format(row[name], ",.1f") for name in names]
    return [f"{row[name]:.1%}" for name in ("test_accuracy_mean", "test_accuracy_min")]


def _format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _format(value: float | None, spec: str, unit: str = "") -> str:
    return "-" if value is None else format(value, spec) + unit


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


def _describe(preset: str, settings: Settings) -> dict[str, Any]:
    devices = jax.devices()
    return {
        "preset": preset,
        "settings": settings.to_json(),
        "versions": describe_versions(),
        "devices": [str(devices[0].device_kind), devices[0].platform, len(devices)],
    }


def _new_run_dir(settings: Settings) -> Path:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / f"{settings.dataset}-{now}"


if __name__ == "__main__":
    main()
