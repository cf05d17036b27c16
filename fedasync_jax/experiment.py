"""From settings to runs: names and numbers become objects, and methods are compared.

All methods of an experiment share data, model, initial values, fleet and number of
gradients, and run in the same engine.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from fedasync_jax.base import Variables
from fedasync_jax.batching import Batching, choose_batching
from fedasync_jax.checkpoint import Checkpoints
from fedasync_jax.config import Settings
from fedasync_jax.engine import RunResult, RunState, Snapshot, init_state, run
from fedasync_jax.history import Evaluation, Past, Updates, choose_versions
from fedasync_jax.local import steps_per_task
from fedasync_jax.methods import Method, make_methods, make_worker
from fedasync_jax.metrics import MetricsLog, Row, score
from fedasync_jax.step_scales import StepScales, reduce_on_plateau
from fedasync_jax.workload import Workload, make_workload


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that is built before the first method runs.

    Attributes:
      settings: what it was built from.
      workload: what is learned from what.
      variables: x_0, the same for all methods, after the warm-up.
      methods: in the order of the settings.
    """

    settings: Settings
    workload: Workload
    variables: Variables
    methods: list[Method]


class Stopped(Exception):
    """A method was asked to stop; its checkpoint is written."""


class Diverged(Exception):
    """A method's arrivals are all rejected; its checkpoint is written.

    It does not go on: what is done again comes to the same.
    """


class Outcome(NamedTuple):
    """A method that has run.

    Attributes:
      method: the method.
      result: final state, updates and evaluations.
      rows: the metrics, as in ``metrics.jsonl``.
      wall_seconds: from its first compilation to its last evaluation.
    """

    method: Method
    result: RunResult
    rows: list[Row]
    wall_seconds: float


def build(settings: Settings) -> Experiment:
    """Build an experiment: read the data, make the schedules, warm up.

    Raises:
      ValueError: if the data are bad or do not fit the settings.
    """
    workload = make_workload(settings)
    methods = list(make_methods(settings, workload))
    variables = jax.jit(workload.model.init)(settings.make_key("init"))
    if settings.warmup_epochs:
        variables = _warm_up(settings, workload, variables)
    return Experiment(
        settings=settings, workload=workload, variables=variables, methods=methods
    )


def _warm_up(settings: Settings, workload: Workload, variables: Variables) -> Variables:
    """Return x_0 of the paper's protocol: some passes over the first clients' data."""
    counts = workload.counts[: settings.warmup_clients]
    steps = steps_per_task(counts, batch_size=settings.batch_size, epochs=1)
    worker = make_worker(
        dataclasses.replace(settings, step_size=settings.warmup_step_size),
        workload._replace(steps=steps),
    )
    key = settings.make_key("warmup")

    @functools.partial(jax.jit, static_argnames="num_steps")
    def train(worker, variables, client, key, num_steps):
        return worker(variables, client, key, num_steps)[0]

    passes = itertools.product(range(settings.warmup_epochs), enumerate(steps))
    for task, (_, (client, num_steps)) in enumerate(passes):
        task_key = jax.random.fold_in(key, task)
        variables = train(worker, variables, client, task_key, int(num_steps))
    return variables


def run_method(
    experiment: Experiment,
    method: Method,
    *,
    batching: Batching | None = None,
    on_row: Callable[[Row, bool], object] = lambda row, again: None,
    checkpoints: Checkpoints | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run one method, from its newest checkpoint on if there is one.

    Args:
      experiment: what it belongs to.
      method: one of ``experiment.methods``.
      batching: see ``engine.run``; default: what suits the workload.
      on_row: called with every line of metrics as soon as it is there, and with
        whether it is told again: a run that goes on begins with those of the versions
        before.
      checkpoints: where to go on from and what to write to.
      should_stop: asked after every wave; the run then ends with ``Stopped``.

    Raises:
      Diverged: if the last ``stop_after_rejected`` arrivals were all rejected, as seen
        at an evaluation.
      OSError: if a checkpoint cannot be written.
      Stopped: if it was asked to, after a checkpoint.
      ValueError: if there are checkpoints but none is intact.
    """
    settings, workload = experiment.settings, experiment.workload
    scales = _make_step_scales(settings)
    log = MetricsLog(
        method,
        step_size=settings.step_size,
        scales=scales,
        is_text=workload.is_text,
        max_rejected=settings.stop_after_rejected,
    )
    state, past, earlier = _restore(experiment, method, checkpoints)
    begin = time.perf_counter() - earlier

    def add_row(evaluation: Evaluation, updates: Updates) -> None:
        on_row(log.add(evaluation, updates), False)

    due = np.flatnonzero(choose_versions(method.eval_every, method.trace.num_updates))

    def has_diverged(version: int) -> bool:
        # Decided by versions alone, not by when an evaluation happens to be fetched.
        if log.diverged_at is None or version == due[-1]:
            return False
        return bool(np.any((due > log.diverged_at) & (due <= version)))

    def save(version: int, make_snapshot: Callable[[], Snapshot]) -> None:
        stops, diverged = should_stop(), has_diverged(version)
        at_once = stops or diverged or version == due[-1]
        if checkpoints and (checkpoints.is_due(version) or at_once):
            seconds = time.perf_counter() - begin
            snapshot = make_snapshot()  # fetches what is left, and so makes log.rows
            newest = score(log.rows[-1])
            checkpoints.save(snapshot, {"wall_seconds": seconds}, score=newest)
            if at_once:
                checkpoints.wait()
        if diverged:
            raise Diverged(_explain(settings, log))
        if stops:
            raise Stopped(f"{method.name} stopped at version {version:,}")

    for evaluation, updates in _tell_again(past):
        if scales is not None:
            scales.observe(evaluation)
        on_row(log.add(evaluation, updates), True)
    if state is not None and has_diverged(state.version):
        raise Diverged(_explain(settings, log))
    result = run(
        method.trace,
        method.local_update,
        method.mixer,
        experiment.variables,
        settings.make_key("tasks"),
        batching=batching or choose_batching(large_tasks=workload.large_tasks),
        evaluate_fn=workload.evaluate,
        eval_every=method.eval_every,
        callback=add_row,
        step_scales=scales,
        state=state,
        past=past,
        on_wave=save,
    )
    return Outcome(method, result, log.rows, time.perf_counter() - begin)


def _restore(
    experiment: Experiment, method: Method, checkpoints: Checkpoints | None
) -> tuple[RunState | None, Past | None, float]:
    """Return where to go on, and after how many seconds of wall time."""
    if checkpoints is None:
        return None, None, 0.0
    first = init_state(method.trace, method.mixer, experiment.variables)
    found = checkpoints.restore(first)
    if found is None:
        return None, None, 0.0
    (state, past), extra = found
    # The last evaluation of a shorter run may not be one of a longer run.
    due = choose_versions(method.eval_every, method.trace.num_updates)
    evaluations = [e for e in past.evaluations if due[e.version]]
    return state, past._replace(evaluations=evaluations), extra["wall_seconds"]


def _tell_again(past: Past | None) -> Iterator[tuple[Evaluation, Updates]]:
    """Yield the evaluations so far, each with the updates since the one before."""
    if past is None:
        return
    before = 0
    for evaluation in past.evaluations:
        rows = slice(before, evaluation.version)
        yield evaluation, Updates(*(column[rows] for column in past.updates))
        before = evaluation.version


def _explain(settings: Settings, log: MetricsLog) -> str:
    """Return why a method has diverged."""
    bound = settings.max_update_norm
    too_far = "" if bound is None else f" or farther than {bound:g} from their start"
    return (
        f"{log.rows[-1]['method']} stopped: the last {settings.stop_after_rejected} "
        f"arrivals or more before version {log.diverged_at:,} were all rejected, as "
        f"they were not finite{too_far}"
    )


def _make_step_scales(settings: Settings) -> StepScales | None:
    if settings.plateau_factor is None:
        return None
    metric = "valid_loss" if settings.plateau_on == "validation" else "loss"
    return StepScales(reduce_on_plateau(metric, settings.plateau_factor))
