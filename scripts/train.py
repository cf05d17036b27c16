"""Compare FedAsync with its baselines on one data set and one fleet of clients.

Without a flag: handwritten digits, 100 clients, slow and fast ones. The results go into
a new folder under runs/.
"""

import collections
import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _devices
import jax
from _cli import fail, parse_flags
from _versions import describe_versions
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fedasync_jax import experiment, run_folder
from fedasync_jax.batching import choose_batching
from fedasync_jax.config import Settings

_WINDOW = 2.0  # seconds over which updates/s is taken


def main() -> None:
    """Run the job."""
    _devices.use_all_cores()
    settings = parse_flags(Settings, __doc__ or "")
    console = Console()
    path = settings.run_dir or _new_run_dir(settings)
    try:
        run_folder.require_new(path)
        built = experiment.build(settings)
        folder = run_folder.RunFolder(path, _describe(settings))
    except ValueError as error:
        fail(error)
    _print_header(console, built, folder.path)
    outcomes = _run_all(console, built, folder)
    rows = [experiment.summarize(outcome) for outcome in outcomes]
    folder.write_summary(rows)
    console.print(_make_table(rows))
    console.print(
        "accuracy: on the test set, of the last ten evaluations; d: staleness"
    )
    _draw(console, folder.path)


def _run_all(
    console: Console, built: experiment.Experiment, folder: run_folder.RunFolder
) -> list[experiment.Outcome]:
    batching = choose_batching()
    outcomes = []
    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(bar_width=16),
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

            outcome = experiment.run_method(
                built, method, batching=batching, on_row=note
            )
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
        while self.recent[-1][1] - self.recent[0][1] > _WINDOW and len(self.recent) > 2:
            self.recent.popleft()
        (first, then), (last, now) = self.recent[0], self.recent[-1]
        rate = (last - first) / (now - then)
        status = f"accuracy {row['test_accuracy']:.1%}"
        if self.is_async and row["mean_staleness"] is not None:
            status += f"  staleness {row['mean_staleness']:.1f}"
        if row["updates"]:
            status += f"  {rate:,.0f} updates/s"
        if row["rejected"]:
            status = f"rejected {row['rejected']}  {status}"
        self.progress.update(self.task, completed=row["version"], status=status)


def _print_header(console: Console, built: experiment.Experiment, path: Path) -> None:
    settings, counts = built.settings, built.partition.counts
    devices = jax.devices()
    console.print(
        f"{settings.dataset}: {len(built.dataset.y_train)} train and "
        f"{len(built.dataset.y_test)} test samples, {settings.num_clients} clients "
        f"with {counts.min()} to {counts.max()} samples; "
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
    table.add_column("method", no_wrap=True)
    for name in (
        "gradi-\nents",
        "virtual\ntime",
        "accuracy\nmean",
        "\nmin",
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
            f"{row['test_accuracy_mean']:.1%}",
            f"{row['test_accuracy_min']:.1%}",
            _format(row["mean_staleness"], ".1f"),
            _format(row["mean_alpha"], ".3f"),
            *([str(row["rejected"])] if rejected else []),
            f"{row['wall_seconds']:.1f} s",
        ]
        table.add_row(*cells)
    return table


def _format(value: float | None, spec: str, unit: str = "") -> str:
    return "-" if value is None else format(value, spec) + unit


def _draw(console: Console, path: Path) -> None:
    try:
        from fedasync_jax import plotting
    except ModuleNotFoundError:
        console.print("no pictures: install the extra 'plots' (matplotlib)")
        return
    for picture in plotting.draw_run(path):
        console.print(f"wrote {picture}", highlight=False, soft_wrap=True)


def _describe(settings: Settings) -> dict[str, Any]:
    devices = jax.devices()
    return {
        "settings": settings.to_json(),
        "versions": describe_versions(),
        "devices": [str(devices[0].device_kind), devices[0].platform, len(devices)],
    }


def _new_run_dir(settings: Settings) -> Path:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / f"{settings.dataset}-{now}"


if __name__ == "__main__":
    main()
