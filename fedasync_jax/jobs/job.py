"""Jobs: experiments in run folders of their own, one or many, by one runner.

Methods that can share a compiled program (``runner.can_run_together``) run together, so
many at a time; the others in turn. A job alone runs its methods one after the other.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from fedasync_jax.engine.state import find_evaluated
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs import report
from fedasync_jax.jobs.callbacks import Callback, Callbacks, Outcome
from fedasync_jax.jobs.client_scores import judge_clients
from fedasync_jax.jobs.metrics import Row
from fedasync_jax.jobs.runner import Stopped, can_run_together, run_together
from fedasync_jax.jobs.session import Diverged, Entry
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.models import save_model
from fedasync_jax.storage.run_folder import RunFolder

_SHARE = 0.05  # of the time, for the checkpoints of all runs


class Job(NamedTuple):
    """An experiment and where it goes.

    Attributes:
      experiment: see ``build_experiment``.
      folder: of its own, open: metrics, checkpoints, arrivals, models, the table.
      callbacks: who is told of the metrics of this job alone.
    """

    experiment: Experiment
    folder: RunFolder
    callbacks: Sequence[Callback] = ()


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

    def __repr__(self) -> str:
        """Return the outcomes, a line each; the arrays in them would fill pages."""
        lines = [*map(repr, self.outcomes), *self.diverged]
        return "\n  ".join([f"Results of {len(self.outcomes)} methods", *lines])


def run_job(
    experiment: Experiment,
    folder: RunFolder,
    *,
    callbacks: Sequence[Callback] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Run all methods of an experiment, or go on with them: ``run_jobs`` of one.

    A method whose arrivals are all rejected ends early; the others are run.

    Raises:
      OSError: see ``run_jobs``, as all that follow.
      Stopped: if it was asked to, after a checkpoint.
      ValueError: if a method has checkpoints but none is intact.
    """
    jobs = [Job(experiment, folder)]
    ((_, results),) = run_jobs(
        jobs, together=1, callbacks=callbacks, should_stop=should_stop
    )
    return results


def run_in_memory(
    experiment: Experiment,
    *,
    callbacks: Sequence[Callback] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Run all methods of an experiment as ``run_job`` does, and write nothing.

    Raises:
      Stopped: if it was asked to; what was done until then is lost.
    """
    told = Callbacks(callbacks)
    ended: list[Outcome | Diverged] = []
    for method in experiment.methods:
        told.on_start(method)
        entry = Entry(experiment, method, told)
        try:
            (outcome,) = run_together([entry], callback=told, should_stop=should_stop)
        except Stopped as stop:
            told.on_stop(method, str(stop))
            raise
        if isinstance(outcome, Outcome):
            outcome = judge_clients(experiment, outcome, told)
            told.on_end(outcome)
        else:
            told.on_stop(method, str(outcome))
        ended.append(outcome)
    return _sum_up(experiment, ended)


def run_jobs(
    jobs: Iterable[Job],
    *,
    together: int = 16,
    callbacks: Sequence[Callback] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Job, Results]]:
    """Run the methods of all jobs, and yield every job that is done.

    The next jobs are asked for when there is room, so they may be built on the way;
    those of one problem should be neighbours. Everything is left in the run folders.

    Args:
      jobs: any number.
      together: methods that share a program at a time, at most.
      callbacks: who is told, see ``Callback``.
      should_stop: asked after every call of the device.

    Raises:
      OSError: if something cannot be written.
      Stopped: if it was asked to, after a checkpoint of every run on its way.
      ValueError: if ``together`` < 1, or a method has checkpoints but none is intact.
    """
    if together < 1:
        raise ValueError(f"together must be >= 1, got {together}")
    told = Callbacks(callbacks)
    left: dict[RunFolder, int] = {}
    ended: dict[RunFolder, list[Outcome | Diverged]] = {}
    for group in _gather(jobs, together, left, told):
        outcomes = _run_group(group, told, should_stop)
        for part, outcome in zip(group, outcomes, strict=True):
            folder = part.job.folder
            if isinstance(outcome, Outcome):
                outcome = judge_clients(part.job.experiment, outcome, told)
                if folder.writes:
                    _write_outcome(folder, part.job.experiment, outcome)
                told.on_end(outcome)
            else:
                told.on_stop(part.method, str(outcome))
            ended.setdefault(folder, []).append(outcome)
            if len(ended[folder]) == left[folder]:
                yield part.job, _finish(part.job, ended.pop(folder))


class _Part(NamedTuple):
    """One method of one job."""

    job: Job
    method: Method

    @property
    def entry(self) -> Entry:
        return Entry(self.job.experiment, self.method)


class _Writer(Callback):
    """Puts what a method does into its run folder, then tells the others."""

    def __init__(self, folder: RunFolder, others: Callback):
        self._folder, self._others = folder, others

    def on_restore(self, method: Method, version: int) -> None:
        if version < method.trace.num_updates:
            self._folder.begin_sitting(method.name, version)
        self._others.on_restore(method, version)

    def on_metrics(self, method: Method, row: Row, *, again: bool) -> None:
        self._folder.add_metrics(row)
        self._others.on_metrics(method, row, again=again)


def _gather(
    jobs: Iterable[Job], together: int, left: dict[RunFolder, int], told: Callback
) -> Iterator[list[_Part]]:
    """Yield methods that fit together; note how many each job has.

    Jobs of another problem follow only when those before have run: neither data nor
    run folders pile up.
    """
    groups: list[list[_Part]] = []
    for job in jobs:
        if groups and not _same_problem(groups[0][0].job, job):
            yield from groups
            groups = []
        left[job.folder] = len(job.experiment.methods)
        for note in job.folder.notes:
            told.on_note(note)
        _write_clients(job.folder, job.experiment)
        for method in job.experiment.methods:
            part = _Part(job, method)
            fitting = (g for g in groups if can_run_together(g[0].entry, part.entry))
            group = next(fitting, None)
            if group is None:
                group = []
                groups.append(group)
            group.append(part)
            if len(group) == together:
                groups.remove(group)
                yield group
    yield from groups


def _same_problem(one: Job, other: Job) -> bool:
    models = [job.experiment.workload.model for job in (one, other)]
    return models[0] is models[1]


def _run_group(
    group: list[_Part], told: Callback, should_stop: Callable[[], bool]
) -> list[Outcome | Diverged]:
    """Run methods together, each with checkpoints of its own; tell who starts."""
    for part in group:
        name, is_async = part.method.name, part.method.is_async
        part.job.folder.write_facts(name, is_async=is_async)
        told.on_start(part.method)
    with contextlib.ExitStack() as stack:

        def make_entry(part: _Part) -> Entry:
            settings, folder = part.job.experiment.settings, part.job.folder
            if not folder.writes:
                return part.entry
            checkpoints = Checkpoints(
                folder.checkpoint_folder(part.method.name),
                every=settings.run.checkpoint_every,
                share=_SHARE / len(group),
                on_skip=told.on_note,
                fingerprint=folder.fingerprint,
                method=part.method.name,
            )
            stack.enter_context(checkpoints)
            writer = _Writer(folder, Callbacks([*part.job.callbacks, told]))
            return part.entry._replace(callback=writer, checkpoints=checkpoints)

        entries = [make_entry(part) for part in group]
        try:
            return run_together(entries, callback=told, should_stop=should_stop)
        except Stopped as stop:
            for part in group:
                told.on_stop(part.method, str(stop))
            raise


def _finish(job: Job, ended: list[Outcome | Diverged]) -> Results:
    """Write the table of a job, if a method ran to its end."""
    results = _sum_up(job.experiment, ended)
    if results.summary:
        job.folder.write_summary(results.summary)
    return results


def _sum_up(experiment: Experiment, ended: list[Outcome | Diverged]) -> Results:
    outcomes = [outcome for outcome in ended if isinstance(outcome, Outcome)]
    order = [method.name for method in experiment.methods]
    outcomes.sort(key=lambda outcome: order.index(outcome.method.name))
    diverged = [str(error) for error in ended if isinstance(error, Diverged)]
    summary = report.summarize_all(outcomes) if outcomes else []
    return Results(outcomes, summary, diverged)


def _write_clients(folder: RunFolder, experiment: Experiment) -> None:
    if folder.writes:
        folder.write_arrays("clients.npz", report.describe_clients(experiment))


def _write_outcome(folder: RunFolder, experiment: Experiment, outcome: Outcome) -> None:
    """Write what a method leaves: its arrivals, its timeline and its model."""
    method = outcome.method
    archives: dict[str, Any] = {
        "updates": report.arrivals(outcome),
        "lost": report.lost_tasks(method),
    }
    timeline = report.sample_timeline(experiment, method)
    if timeline is not None:
        archives["timeline"] = timeline._asdict()
    if outcome.client_scores is None:
        folder.drop_archive(method.name, "clients")  # of a shorter run
    else:
        archives["clients"] = outcome.client_scores
    folder.write_method(method.name, **archives)
    about = {
        "method": method.name,
        "version": outcome.result.state.version,
        "metrics": outcome.rows[-1],
        "settings": experiment.settings.to_json(),
    }
    model = find_evaluated(method.mixer, outcome.result.state)
    save_model(folder.model_folder(method.name), model, about)
