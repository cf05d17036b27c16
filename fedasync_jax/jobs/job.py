"""A job: all methods of an experiment, in a run folder, one after the other."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fedasync_jax.experiment.records import Experiment, Method
from fedasync_jax.jobs import report
from fedasync_jax.jobs.callbacks import Callback
from fedasync_jax.jobs.metrics import Row
from fedasync_jax.jobs.runner import Diverged, Outcome, Stopped, run_method
from fedasync_jax.schedule.trace import UNFINISHED
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.models import save_model
from fedasync_jax.storage.run_folder import RunFolder


class Results(NamedTuple):
    """What became of the methods.

    Attributes:
      outcomes: of those that ran to their end, in their order.
      summary: their lines of the final table, see ``report.summarize_all``.
      diverged: why the others did not, a line each.
    """

    outcomes: list[Outcome]
    summary: list[Row]
    diverged: list[str]


def run_all(
    experiment: Experiment,
    folder: RunFolder,
    *,
    callbacks: Sequence[Callback] = (),
    should_stop: Callable[[], bool] = lambda: False,
    on_skip: Callable[[str], None] = lambda line: None,
) -> Results:
    """Run all methods, or go on with them, and leave everything in the folder.

    A method whose arrivals are all rejected ends early; the others are run.

    Args:
      experiment: see ``experiment.build``.
      folder: where metrics, checkpoints, arrivals, models and the table go.
      callbacks: what else is told, see ``callbacks.Callback``.
      should_stop: asked after every wave; the run then ends with ``Stopped``.
      on_skip: told of every checkpoint that is passed over, in a line.

    Raises:
      OSError: if something cannot be written.
      Stopped: if it was asked to, after a checkpoint.
      ValueError: if a method has checkpoints but none is intact.
    """
    write_clients(folder, experiment)
    outcomes: list[Outcome] = []
    diverged: list[str] = []
    for method in experiment.methods:
        for callback in callbacks:
            callback.on_start(method)
        try:
            outcome = _run_one(
                experiment, method, folder, callbacks, should_stop, on_skip
            )
        except (Diverged, Stopped) as error:
            for callback in callbacks:
                callback.on_stop(method, str(error))
            if isinstance(error, Stopped):
                raise
            diverged.append(str(error))
            continue
        write_outcome(folder, experiment, outcome)
        for callback in callbacks:
            callback.on_end(outcome)
        outcomes.append(outcome)
    return conclude(folder, outcomes, diverged)


def conclude(
    folder: RunFolder, outcomes: list[Outcome], diverged: list[str]
) -> Results:
    """Write the final table, if a method ran to its end, and return the results."""
    summary = report.summarize_all(outcomes) if outcomes else []
    if summary:
        folder.write_summary(summary)
    return Results(outcomes, summary, diverged)


def _run_one(
    experiment: Experiment,
    method: Method,
    folder: RunFolder,
    callbacks: Sequence[Callback],
    should_stop: Callable[[], bool],
    on_skip: Callable[[str], None],
) -> Outcome:
    def tell(row: Row, again: bool) -> None:
        folder.add_metrics(row)
        for callback in callbacks:
            callback.on_metrics(method, row, again=again)

    where = folder.checkpoint_folder(method.name)
    every = experiment.settings.run.checkpoint_every
    with Checkpoints(where, every=every, on_skip=on_skip) as checkpoints:
        return run_method(
            experiment,
            method,
            on_row=tell,
            checkpoints=checkpoints,
            should_stop=should_stop,
        )


def write_clients(folder: RunFolder, experiment: Experiment) -> None:
    """Write who has what data."""
    workload = experiment.workload
    arrays = {"num_samples": workload.counts}
    if workload.label_counts is not None:
        arrays["label_counts"] = workload.label_counts
    folder.write_arrays("clients.npz", arrays)


def write_outcome(folder: RunFolder, experiment: Experiment, outcome: Outcome) -> None:
    """Write what a method leaves: its arrivals, its timeline and its model."""
    method, lost = outcome.method, outcome.method.trace.lost
    is_lost = lost.reason != UNFINISHED
    archives: dict[str, Any] = {
        "updates": report.arrivals(outcome),
        "lost": {name: column[is_lost] for name, column in lost._asdict().items()},
    }
    timeline = report.sample_timeline(experiment, method)
    if timeline is not None:
        archives["timeline"] = timeline._asdict()
    folder.write_method(method.name, **archives)
    about = {
        "method": method.name,
        "version": outcome.result.state.version,
        "metrics": outcome.rows[-1],
        "settings": experiment.settings.to_json(),
    }
    model = outcome.result.state.variables
    save_model(folder.model_folder(method.name), model, about)
