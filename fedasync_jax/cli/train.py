"""Compare FedAsync with its baselines on one data set and one fleet of clients."""

import datetime
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from fedasync_jax.cli.distributed import count_processes, end_together
from fedasync_jax.cli.endings import clear_endings
from fedasync_jax.cli.flags import fail, fit_line, name_program
from fedasync_jax.cli.results import make_client_table, make_table
from fedasync_jax.cli.signals import note_signals
from fedasync_jax.cli.startup import choose_compile_cache, prepare_process
from fedasync_jax.cli.train_flags import TrainCommand, parse_train
from fedasync_jax.cli.unused import print_note
from fedasync_jax.data.partition.summary import summarize_label_counts
from fedasync_jax.engine.processes import find_processes
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.jobs import report, runner
from fedasync_jax.jobs.loggers.by_name import make_loggers
from fedasync_jax.jobs.machine import device_peak_mb, host_peak_mb
from fedasync_jax.jobs.progress import ProgressLine
from fedasync_jax.jobs.results import TrainResults
from fedasync_jax.jobs.scores import name_score
from fedasync_jax.jobs.training import run_settings


@end_together()
@clear_endings()
def main() -> None:
    """Run the job."""
    prepare_process()
    command = parse_train(sys.argv[1:])
    choose_compile_cache(command.compile_cache)
    is_first = find_processes().is_first
    console = Console(quiet=not is_first)
    print_note(console, command.note)
    path = command.settings.run.run_dir or _new_run_dir(command.settings)
    results = _run_or_stop(console, command, path)
    if is_first:
        _tell(console, command, path, results)
    if results.diverged:
        sys.exit(1)


def _tell(
    console: Console, command: TrainCommand, path: Path, results: TrainResults
) -> None:
    """Print the table, and draw; of several processes, only process 0 does."""
    if results.outcomes:
        _print_results(console, results)
    _draw(console, path)
    for line in results.diverged:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    if command.check:
        _check(console, results.outcomes)


class _Header:
    """Says what is about to run, and notes signals from then on."""

    def __init__(self, console: Console, path: Path):
        self._console, self._path = console, path
        self._status = console.status("reading data, making schedules, warming up")
        self.asked: list[int] = []

    def __enter__(self) -> "_Header":
        self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def show(self, experiment: Experiment) -> None:
        self._status.stop()
        _print_header(self._console, experiment, self._path)
        self.asked = note_signals("wave")


def _run_or_stop(console: Console, command: TrainCommand, path: Path) -> TrainResults:
    """Run all methods; when asked to stop or at an error, end the process."""
    with _Header(console, path) as header, ProgressLine(console) as progress:
        try:
            return run_settings(
                command.settings,
                run_dir=path,
                config={"preset": command.preset, "fleet": command.fleet},
                on_begin=header.show,
                callbacks=[progress],
                loggers=make_loggers(command.log_to, path),
                warn=progress.on_note,
                should_stop=lambda: bool(header.asked),
            )
        except runner.Stopped as stop:
            reason = str(stop)
        except KeyboardInterrupt:
            reason = ""
        except BrokenPipeError:
            raise  # its reader has gone: nobody is to be told
        except (ValueError, OSError, ModuleNotFoundError) as error:
            fail(error)
    if not reason:
        console.print("stopped before anything was trained")
        sys.exit(128 + signal.SIGINT)
    asked = max(find_processes().gather(max(header.asked, default=0)))
    again = f"--resume {path}" + "".join(f" --load {name}" for name in command.load)
    console.print(
        f"{reason}; resume with: {name_program()} {again}",
        highlight=False,
        soft_wrap=True,
    )
    sys.exit(128 + asked)


def _print_results(console: Console, results: TrainResults) -> None:
    console.print(make_table(results.table()))
    what = name_score(results.outcomes[0].rows[-1])
    console.print(f"{what}: on the test set, of the last ten evaluations; d: staleness")
    by_client = make_client_table(results.table())
    if by_client is not None:
        console.print(by_client)
        console.print("on every client's own train samples, by the final model")
    console.print(_describe_memory(), highlight=False)


def _check(console: Console, outcomes: Sequence[runner.Outcome]) -> None:
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


def _print_header(console: Console, built: Experiment, path: Path) -> None:
    settings, counts = built.settings, built.workload.counts
    devices = jax.devices()
    console.print(
        f"{built.workload.description}, {settings.partition.num_clients} clients "
        f"with {counts.min()} to {counts.max()} of them; "
        f"{len(devices)} {devices[0].platform} device(s){count_processes()}",
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


def _describe_memory() -> str:
    device = device_peak_mb()
    return f"peak memory {host_peak_mb():,.0f} MB" + (
        "" if device is None else f", of the first device {device:,.0f} MB"
    )


def _draw(console: Console, path: Path) -> None:
    """Draw what can be drawn; a run is no worse without pictures."""
    try:
        from fedasync_jax import plotting

        pictures = plotting.draw_run(path)
    except ModuleNotFoundError:
        console.print("no pictures: install the extra 'plots' (matplotlib)")
        return
    except Exception as error:  # of matplotlib, its fonts and its cache, too
        line = f"no pictures: {fit_line(str(error))}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)
        return
    for picture in pictures:
        console.print(f"wrote {picture}", highlight=False, soft_wrap=True, markup=False)


def _new_run_dir(settings: Settings) -> Path:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / f"{settings.data.dataset}-{now}"


if __name__ == "__main__":
    main()
