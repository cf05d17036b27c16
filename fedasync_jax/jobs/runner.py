"""Running the methods of experiments: one at a time, or many in one program.

Either way a run tells its metrics, writes checkpoints and goes on from the newest.
"""

from collections.abc import Callable, Sequence

from fedasync_jax.engine.algorithm import RunResult, Snapshot, as_pytree, run
from fedasync_jax.engine.batching import Batching, choose_batching
from fedasync_jax.engine.many import run_many
from fedasync_jax.engine.stacking import find_difference
from fedasync_jax.experiment.records import Experiment, Method
from fedasync_jax.jobs.session import Diverged, Entry, OnRow, Outcome, Session
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.worker.local_update import match_sizes


class Stopped(Exception):
    """A method was asked to stop; its checkpoint is written."""


def run_method(
    experiment: Experiment,
    method: Method,
    *,
    batching: Batching | None = None,
    on_row: OnRow = lambda row, again: None,
    checkpoints: Checkpoints | None = None,
    on_call: Callable[[list[int]], object] = lambda versions: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run one method, from its newest checkpoint on if there is one.

    Args:
      experiment: see ``Entry``.
      method: see ``Entry``.
      batching: see ``engine.run``; default: what suits the workload.
      on_row: see ``Entry``.
      checkpoints: see ``Entry``.
      on_call: told of the newest version after every wave.
      should_stop: asked after every wave; the run then ends with ``Stopped``.

    Raises:
      Diverged: if the last ``stop_after_rejected`` arrivals were all rejected, as seen
        at an evaluation.
      OSError: if a checkpoint cannot be written.
      Stopped: if it was asked to, after a checkpoint.
      ValueError: if there are checkpoints but none is intact.
    """
    batching = batching or _choose_batching(experiment)
    entry = Entry(experiment, method, on_row, checkpoints)
    session = Session(entry, batching.max_width)
    session.tell_again()

    def save(version: int, make_snapshot: Callable[[], Snapshot]) -> None:
        stops = should_stop()
        session.save(version, make_snapshot, at_once=stops)
        on_call([version])
        if stops:
            raise Stopped(f"{method.name} stopped at version {version:,}")

    one = session.run
    result = run(
        *one[:5],
        batching=batching,
        evaluate_fn=experiment.workload.evaluate,
        eval_every=one.eval_every,
        callback=one.callback,
        step_scales=one.step_scales,
        state=one.state,
        past=one.past,
        on_wave=save,
    )
    return session.finish(result)


def run_together(
    entries: Sequence[Entry],
    *,
    batching: Batching | None = None,
    on_call: Callable[[list[int]], object] = lambda versions: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Outcome | Diverged]:
    """Run methods of several experiments in one program, each as if it ran alone.

    They must learn the same problem and differ only in seeds, schedules and numbers,
    see ``many.run_many``. Runs that were stopped go on bit for bit if all go on
    together; otherwise, as which tasks share a call may differ, to rounding.

    Args:
      entries: one or more.
      batching: see ``run_many``; default: what suits the workload.
      on_call: told of the newest version of each after every call of the device.
      should_stop: asked after every call of the device; all runs then end.

    Raises:
      OSError: if a checkpoint cannot be written.
      Stopped: if it was asked to, after a checkpoint of every run.
      ValueError: if they cannot share a program, or one has checkpoints but none is
        intact.

    Returns:
      What became of each, in their order.
    """
    if len(entries) == 1:  # its own waves are faster than calls that are filled
        try:
            return [
                run_method(
                    *entries[0][:2],
                    batching=batching,
                    on_row=entries[0].on_row,
                    checkpoints=entries[0].checkpoints,
                    on_call=on_call,
                    should_stop=should_stop,
                )
            ]
        except Diverged as error:
            return [error]
    sessions = [Session(entry) for entry in entries]
    ended: dict[int, Diverged] = {}
    for number, session in enumerate(sessions):
        try:
            session.tell_again()
        except Diverged as error:
            ended[number] = error
    going = [number for number in range(len(sessions)) if number not in ended]

    def save(
        versions: list[int], make_snapshot: Callable[[int], Snapshot]
    ) -> list[int]:
        stops = should_stop()
        for place, number in enumerate(going):
            is_new = versions[place] != sessions[number].version
            if number in ended or not (is_new or stops):
                continue
            try:
                sessions[number].save(
                    versions[place],
                    lambda place=place: make_snapshot(place),
                    at_once=stops,
                )
            except Diverged as error:
                ended[number] = error
        on_call([session.version for session in sessions])
        if stops:
            stopped = sum(number not in ended for number in going)
            raise Stopped(f"{stopped} runs stopped")
        return [place for place, number in enumerate(going) if number in ended]

    results: dict[int, RunResult] = {}
    if going:
        runs = [sessions[number].run for number in going]
        workers = match_sizes([run.local_update for run in runs])
        made = run_many(
            [
                run._replace(local_update=worker)
                for run, worker in zip(runs, workers, strict=True)
            ],
            batching=batching or _choose_batching(entries[0].experiment),
            evaluate_fn=entries[0].experiment.workload.evaluate,
            on_call=save,
        )
        results = dict(zip(going, made, strict=True))
    return [
        ended[n] if n in ended else session.finish(results[n])
        for n, session in enumerate(sessions)
    ]


def can_run_together(a: Entry, b: Entry) -> bool:
    """Return whether two methods can share a program, see ``run_together``."""
    entries = (a, b)
    workers = match_sizes([entry.method.local_update for entry in entries])
    parts = [
        (
            as_pytree(worker),
            as_pytree(entry.method.mixer.update),
            entry.experiment.variables,
        )
        for worker, entry in zip(workers, entries, strict=True)
    ]
    plateaus = {e.experiment.settings.worker.plateau_factor is None for e in entries}
    judges = {e.experiment.workload.evaluate for e in entries}
    return len(plateaus) == len(judges) == 1 and find_difference(parts) is None


def _choose_batching(experiment: Experiment) -> Batching:
    return choose_batching(large_tasks=experiment.workload.large_tasks)
