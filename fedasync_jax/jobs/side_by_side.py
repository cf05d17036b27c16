"""Jobs side by side: experiments in folders of their own, many in one program.

Runs that can share a compiled program (``running.can_run_together``) are run together,
so many at a time; the others in turn.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fedasync_jax.experiment.records import Experiment, Method
from fedasync_jax.jobs.job import Results, conclude, write_clients, write_outcome
from fedasync_jax.jobs.metrics import Row
from fedasync_jax.jobs.runner import Outcome, can_run_together, run_together
from fedasync_jax.jobs.session import Diverged, Entry
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.run_folder import RunFolder

_SHARE = 0.05  # of the time, for the checkpoints of all runs


class Job(NamedTuple):
    """An experiment and where it goes.

    Attributes:
      experiment: see ``experiment.build``.
      folder: of its own, open.
    """

    experiment: Experiment
    folder: RunFolder


class Listener:
    """Who is told of runs side by side; override what you need."""

    def on_begin(self, methods: list[Method]) -> None:
        """So many runs begin, or go on, together."""

    def on_call(self, versions: list[int]) -> None:
        """The device has been called; the newest version of each of them."""

    def on_row(self, folder: RunFolder, row: Row, *, again: bool) -> None:
        """One of them has an evaluation, see ``callbacks.Callback.on_metrics``."""

    def on_end(self, outcomes: list[Outcome | Diverged]) -> None:
        """They are done."""

    def on_skip(self, line: str) -> None:
        """A checkpoint is passed over."""


class _Part(NamedTuple):
    """One method of one job."""

    job: Job
    method: Method

    @property
    def entry(self) -> Entry:
        return Entry(self.job.experiment, self.method)


def run_side_by_side(
    jobs: Iterable[Job],
    *,
    together: int = 16,
    listener: Listener | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Job, Results]]:
    """Run the methods of all jobs, and yield every job that is done.

    The next jobs are asked for when there is room, so they may be built on the way;
    those of one problem should be neighbours. A run folder is left as ``job.run_all``
    leaves it.

    Args:
      jobs: any number.
      together: runs that share a program at a time, at most.
      listener: see ``Listener``.
      should_stop: asked after every call of the device.

    Raises:
      OSError: if something cannot be written.
      Stopped: if it was asked to, after a checkpoint of every run on its way.
      ValueError: if ``together`` < 1, or a method has checkpoints but none is intact.
    """
    if together < 1:
        raise ValueError(f"together must be >= 1, got {together}")
    listener = listener or Listener()
    left: dict[RunFolder, int] = {}
    ended: dict[RunFolder, list[Outcome | Diverged]] = {}
    for group in _gather(jobs, together, left):
        outcomes = _run_group(group, listener, should_stop)
        for part, outcome in zip(group, outcomes, strict=True):
            folder = part.job.folder
            if isinstance(outcome, Outcome):
                write_outcome(folder, part.job.experiment, outcome)
            ended.setdefault(folder, []).append(outcome)
            if len(ended[folder]) == left[folder]:
                yield part.job, _finish(part.job, ended.pop(folder))


def _gather(
    jobs: Iterable[Job], together: int, left: dict[RunFolder, int]
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
        write_clients(job.folder, job.experiment)
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
    group: list[_Part], listener: Listener, should_stop: Callable[[], bool]
) -> list[Outcome | Diverged]:
    with contextlib.ExitStack() as stack:

        def make_entry(part: _Part) -> Entry:
            settings, folder = part.job.experiment.settings, part.job.folder

            def tell(row: Row, again: bool) -> None:
                folder.add_metrics(row)
                listener.on_row(folder, row, again=again)

            checkpoints = Checkpoints(
                folder.checkpoint_folder(part.method.name),
                every=settings.run.checkpoint_every,
                share=_SHARE / len(group),
                on_skip=listener.on_skip,
            )
            stack.enter_context(checkpoints)
            return part.entry._replace(on_row=tell, checkpoints=checkpoints)

        listener.on_begin([part.method for part in group])
        entries = [make_entry(part) for part in group]
        outcomes = run_together(
            entries, on_call=listener.on_call, should_stop=should_stop
        )
        listener.on_end(outcomes)
        return outcomes


def _finish(job: Job, ended: list[Outcome | Diverged]) -> Results:
    """Write the table of a job."""
    outcomes = [outcome for outcome in ended if isinstance(outcome, Outcome)]
    order = [method.name for method in job.experiment.methods]
    outcomes.sort(key=lambda outcome: order.index(outcome.method.name))
    diverged = [str(error) for error in ended if isinstance(error, Diverged)]
    return conclude(job.folder, outcomes, diverged)
