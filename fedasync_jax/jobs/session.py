"""A method on its way: where it goes on, what it tells, when it is saved."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fedasync_jax.engine.history import Evaluation, Past, Updates, choose_versions
from fedasync_jax.engine.loop import Run
from fedasync_jax.engine.processes import find_processes
from fedasync_jax.engine.state import RunResult, RunState, Snapshot, init_state
from fedasync_jax.engine.step_scales import StepScales, reduce_on_plateau
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.records import Method
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.jobs.callbacks import Callback, Outcome
from fedasync_jax.jobs.metrics import MetricsLog, score
from fedasync_jax.schedule.trace import make_waves
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.snapshots import share_snapshot


class Diverged(Exception):
    """A method's arrivals are all rejected; its checkpoint is written.

    It does not go on: what is done again comes to the same.
    """


class Entry(NamedTuple):
    """A method that is to run, what is told of it, and where it is saved.

    Attributes:
      experiment: what it belongs to.
      method: one of ``experiment.methods``.
      callback: told of its metrics as soon as they are there; a run that goes on
        begins with those of the versions before.
      checkpoints: where to go on from and what to write to; of several processes, only
        process 0 does.
    """

    experiment: Experiment
    method: Method
    callback: Callback = Callback()
    checkpoints: Checkpoints | None = None


class Session:
    """One run on its way.

    Attributes:
      run: arguments of the engine.
      version: newest that it was told of.
    """

    def __init__(self, entry: Entry, max_width: int | None = None):
        """Find where it goes on.

        Given the width of its waves, where one of them begins. The last wave of a run
        is cut by its end; so that a longer run, in which it is not, makes the same
        bits, there is a checkpoint before it.
        """
        self._entry = entry
        settings, method = entry.experiment.settings, entry.method
        trace = method.trace
        due = choose_versions(method.eval_every, trace.num_updates)
        self._due = np.flatnonzero(due)
        waves = []
        if max_width is not None:
            starts = trace.start_version
            waves = list(make_waves(starts, max_width, stops=self._due))
        self._before_last = waves[-1][0] if waves else None
        self._scales = _make_step_scales(settings)
        self._log = MetricsLog(
            method,
            step_size=method.step_size or settings.worker.step_size,
            scales=self._scales,
            is_text=entry.experiment.workload.is_text,
            max_rejected=settings.run.stop_after_rejected,
        )
        self._diverged = False
        ends = {end for _, end in waves}
        state, past, earlier = _restore(entry, lambda v: not ends or v in ends)
        self._begin = time.perf_counter() - earlier
        self.version = 0 if state is None else state.version
        entry.callback.on_restore(method, self.version)
        self.run = Run(
            method.trace,
            method.local_update,
            method.mixer,
            entry.experiment.variables,
            settings.make_key("tasks"),
            eval_every=method.eval_every,
            callback=self._add_row,
            step_scales=self._scales,
            state=state,
            past=past,
        )

    @property
    def name(self) -> str:
        """The name of its method."""
        return self._entry.method.name

    def tell_again(self) -> None:
        """Tell the metrics of the versions before.

        Raises:
          Diverged: if it has.
        """
        for evaluation, updates in _split(self.run.past):
            if self._scales is not None:
                self._scales.observe(evaluation)
            self._tell(evaluation, updates, again=True)
        if self._has_diverged(self.version):
            raise Diverged(self._explain())

    def save(
        self, version: int, make_snapshot: Callable[[], Snapshot], *, at_once: bool
    ) -> None:
        """Write a checkpoint if it is due; at once, and to its end, if asked for.

        Raises:
          Diverged: if the run has, after a checkpoint.
        """
        self.version = version
        diverged = self._has_diverged(version)
        at_once = at_once or diverged or version == self._due[-1]
        writes = version and find_processes().is_first
        checkpoints = self._entry.checkpoints if writes else None
        is_last_place = version == self._before_last
        if checkpoints is not None and (
            checkpoints.is_due(version) or at_once or is_last_place
        ):
            seconds = time.perf_counter() - self._begin
            snapshot = make_snapshot()  # fetches what is left, and so makes the rows
            newest = score(self._log.rows[-1])
            checkpoints.save(snapshot, {"wall_seconds": seconds}, score=newest)
            if at_once:
                checkpoints.wait()
        if diverged:
            self._diverged = True
            raise Diverged(self._explain())

    def finish(self, result: RunResult) -> Outcome:
        """Return what became of it."""
        seconds = time.perf_counter() - self._begin
        return Outcome(self._entry.method, result, self._log.rows, seconds)

    def _add_row(self, evaluation: Evaluation, updates: Updates) -> None:
        if not self._diverged:
            self._tell(evaluation, updates, again=False)

    def _tell(self, evaluation: Evaluation, updates: Updates, *, again: bool) -> None:
        row = self._log.add(evaluation, updates)
        self._entry.callback.on_metrics(self._entry.method, row, again=again)

    def _has_diverged(self, version: int) -> bool:
        # Decided by versions alone, not by when an evaluation happens to be fetched.
        at = self._log.diverged_at
        if at is None or version == self._due[-1]:
            return False
        return bool(np.any((self._due > at) & (self._due <= version)))

    def _explain(self) -> str:
        settings, log = self._entry.experiment.settings, self._log
        bound = settings.mixing.max_update_norm
        far = "" if bound is None else f" or farther than {bound:g} from their start"
        return (
            f"{self.name} stopped: the last "
            f"{settings.run.stop_after_rejected} arrivals or more before version "
            f"{log.diverged_at:,} were all rejected, as they were not finite{far}"
        )


def _restore(
    entry: Entry, prefer: Callable[[int], bool]
) -> tuple[RunState | None, Past | None, float]:
    """Return where to go on, and after how many seconds of wall time."""
    processes, found = find_processes(), None
    if entry.checkpoints is None and processes.count == 1:
        return None, None, 0.0
    method = entry.method
    first = init_state(method.trace, method.mixer, entry.experiment.variables)
    if entry.checkpoints is not None and processes.is_first:
        found = entry.checkpoints.restore(first, prefer=prefer)
    found = share_snapshot(found, first)
    if found is None:
        return None, None, 0.0
    (state, past), extra = found
    # The last evaluation of a shorter run may not be one of a longer run.
    due = choose_versions(method.eval_every, method.trace.num_updates)
    evaluations = [e for e in past.evaluations if due[e.version]]
    return state, past._replace(evaluations=evaluations), extra["wall_seconds"]


def _split(past: Past | None) -> Iterator[tuple[Evaluation, Updates]]:
    """Yield the evaluations so far, each with the updates since the one before."""
    if past is None:
        return
    before = 0
    for evaluation in past.evaluations:
        rows = slice(before, evaluation.version)
        yield evaluation, Updates(*(column[rows] for column in past.updates))
        before = evaluation.version


def _make_step_scales(settings: Settings) -> StepScales | None:
    worker = settings.worker
    if worker.plateau_factor is None:
        return None
    metric = "valid_loss" if worker.plateau_on == "validation" else "loss"
    rule = reduce_on_plateau(metric, worker.plateau_factor)
    return StepScales(rule, at_once=worker.plateau_applies == "at-once")
