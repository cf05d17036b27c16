"""Running methods of experiments in one program: one alone, or many side by side.

Every run tells its metrics, writes checkpoints and goes on from the newest.
"""

import functools
from collections.abc import Callable, Sequence

import jax

from fedasync_jax.base import PyTree
from fedasync_jax.engine.batching import Batching, choose_batching
from fedasync_jax.engine.carried import init_mixer
from fedasync_jax.engine.loop import Run
from fedasync_jax.engine.many import run_many
from fedasync_jax.engine.plan import as_pytree
from fedasync_jax.engine.processes import find_processes_of
from fedasync_jax.engine.stacking import find_difference
from fedasync_jax.engine.state import RunResult, Snapshot
from fedasync_jax.engine.task_size import measure_task
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.callbacks import Callback, Outcome
from fedasync_jax.jobs.session import Diverged, Entry, Session
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.worker.local_update import match_sizes


class Stopped(Exception):
    """Methods were asked to stop; their checkpoints are written."""

    is_agreed = True  # of several processes, all stop


def run_method(
    experiment: Experiment,
    method: Method,
    *,
    batching: Batching | None = None,
    callback: Callback | None = None,
    checkpoints: Checkpoints | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run one method: ``run_together`` of one.

    Raises:
      Diverged: if the last ``stop_after_rejected`` arrivals were all rejected, as seen
        at an evaluation.
      OSError: see ``run_together``, as all that follow.
      Stopped: if it was asked to, after a checkpoint.
      ValueError: if there are checkpoints but none is intact.
    """
    entry = Entry(experiment, method, callback or Callback(), checkpoints)
    (outcome,) = run_together(
        [entry], batching=batching, callback=callback, should_stop=should_stop
    )
    if isinstance(outcome, Diverged):
        raise outcome
    return outcome


def run_together(
    entries: Sequence[Entry],
    *,
    batching: Batching | None = None,
    callback: Callback | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Outcome | Diverged]:
    """Run methods of several experiments in one program, each as if it ran alone.

    They must learn the same problem and differ only in seeds, schedules and numbers,
    see ``engine.run_many``. Runs that were stopped go on bit for bit if all go on
    together; otherwise, as which tasks share a call may differ, to rounding.

    Args:
      entries: one or more.
      batching: see ``run_many``; default: what suits the workload.
      callback: its ``on_wave`` is called after every call of the device.
      should_stop: asked after every call of the device; all runs then end. Of several
        processes, any may ask all to stop.

    Raises:
      OSError: if a checkpoint cannot be written.
      Stopped: if it was asked to, after a checkpoint of every run.
      ValueError: if they cannot share a program, or one has checkpoints but none is
        intact.

    Returns:
      What became of each, in their order.
    """
    batching = batching or choose_run_batching(entries[0])
    group = _Group(entries, batching, callback or Callback(), should_stop)
    results: dict[int, RunResult] = {}
    if group.going:
        made = run_many(
            group.make_runs(),
            batching=batching,
            evaluate_fn=entries[0].experiment.workload.evaluate,
            on_call=group.save,
        )
        results = dict(zip(group.going, made, strict=True))
    return [
        group.ended[n] if n in group.ended else session.finish(results[n])
        for n, session in enumerate(group.sessions)
    ]


class _Group:
    """Methods that run together.

    Attributes:
      sessions: one of each.
      ended: those that have diverged, by number.
      going: numbers of those that the device works on.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        batching: Batching,
        callback: Callback,
        should_stop: Callable[[], bool],
    ):
        # One alone is saved where its waves begin; calls of several are cut anyhow.
        width = batching.max_width if len(entries) == 1 else None
        self.sessions = [Session(entry, width) for entry in entries]
        self.ended: dict[int, Diverged] = {}
        self._callback, self._should_stop = callback, should_stop
        self._processes = find_processes_of(batching.mesh)
        for number, session in enumerate(self.sessions):
            try:
                session.tell_again()
            except Diverged as error:
                self.ended[number] = error
        numbers = range(len(self.sessions))
        self.going = [number for number in numbers if number not in self.ended]

    def make_runs(self) -> list[Run]:
        """Return what the engine runs, of the same shapes."""
        runs = [self.sessions[number].run for number in self.going]
        if len(self.sessions) == 1:
            return runs
        workers = match_sizes([run.local_update for run in runs])
        return [
            run._replace(local_update=worker)
            for run, worker in zip(runs, workers, strict=True)
        ]

    def save(
        self, versions: list[int], make_snapshot: Callable[[int], Snapshot]
    ) -> list[int]:
        """Write the checkpoints that are due; return the runs that have ended."""
        stops = self._processes.agree_to_stop(self._should_stop())
        for place, number in enumerate(self.going):
            session = self.sessions[number]
            is_new = versions[place] != session.version
            if number in self.ended or not (is_new or stops):
                continue
            try:
                session.save(
                    versions[place],
                    lambda place=place: make_snapshot(place),
                    at_once=stops,
                )
            except Diverged as error:
                self.ended[number] = error
        self._callback.on_wave([session.version for session in self.sessions])
        if stops:
            raise Stopped(self._explain_stop())
        return [place for place, n in enumerate(self.going) if n in self.ended]

    def _explain_stop(self) -> str:
        if len(self.sessions) == 1:
            (session,) = self.sessions
            return f"{session.name} stopped at version {session.version:,}"
        return f"{sum(n not in self.ended for n in self.going)} runs stopped"


def can_run_together(a: Entry, b: Entry) -> bool:
    """Return whether two methods can share a program, see ``run_together``."""
    entries = (a, b)
    workers = match_sizes([entry.method.local_update for entry in entries])
    parts = [
        (
            as_pytree(worker),
            as_pytree(entry.method.mixer.update),
            entry.experiment.variables,
            _shape_state(entry),
        )
        for worker, entry in zip(workers, entries, strict=True)
    ]
    plateaus = {e.experiment.settings.worker.plateau_factor is None for e in entries}
    judges = {
        (e.experiment.workload.evaluate, e.method.mixer.evaluated) for e in entries
    }
    return len(plateaus) == len(judges) == 1 and find_difference(parts) is None


def _shape_state(entry: Entry) -> PyTree:
    """Return the shapes of what the rule remembers, such as a buffer of K models."""
    mixer = entry.method.mixer
    return jax.eval_shape(
        functools.partial(init_mixer, mixer), entry.experiment.variables
    )


def choose_run_batching(entry: Entry) -> Batching:
    """Return the batching that suits the work of a method."""
    experiment = entry.experiment
    key = experiment.settings.make_key("tasks")
    task = measure_task(entry.method.local_update, experiment.variables, key)
    return choose_batching(large_tasks=experiment.workload.large_tasks, task=task)
