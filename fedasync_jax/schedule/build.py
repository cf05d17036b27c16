"""From settings to the schedule: a trace, made before anything is trained."""

import math
from collections.abc import Callable

import numpy as np

from fedasync_jax.fleet.devices import Fleet
from fedasync_jax.schedule.local_steps import TaskWork
from fedasync_jax.schedule.schedulers import SCHEDULES, Rounds, Sampled, Scheduler
from fedasync_jax.schedule.settings import ScheduleSettings
from fedasync_jax.schedule.simulation import sampled_staleness, simulate
from fedasync_jax.schedule.trace import Trace, round_ends


def build_trace(
    settings: ScheduleSettings,
    fleet: Fleet,
    work: TaskWork,
    num_updates: int,
    rng: np.random.Generator,
) -> Trace:
    """Make the schedule of the asynchronous methods.

    Raises:
      ValueError: if no model ever arrives, or a time limit is too short.
    """
    scheduler = SCHEDULES.make(settings.schedule, settings.of_choices)
    if isinstance(scheduler, Sampled):
        return sampled_staleness(
            len(work.counts),
            num_updates,
            max_staleness=scheduler.max_staleness,
            num_steps=work.num_steps,
            rng=rng,
        )
    return _simulate(settings, fleet, work, num_updates, scheduler, rng)


def build_rounds(
    settings: ScheduleSettings,
    fleet: Fleet,
    work: TaskWork,
    num_updates: int,
    make_rng: Callable[[], np.random.Generator],
) -> Trace:
    """Make the schedule of the synchronous methods, of whole rounds.

    It ends with the last round that is through by ``num_updates`` arrivals.

    Args:
      settings: of the schedule.
      fleet: the devices.
      work: what a task is.
      num_updates: T, arrivals at most; at least one round of k if it is less.
      make_rng: returns the same generator, new, at every call.

    Raises:
      ValueError: see ``build_trace``.
    """
    k = settings.clients_per_round
    deadline = settings.round_deadline or math.inf
    scheduler = Rounds(k, settings.over_selection, deadline, settings.round_selection)

    def run(most: int) -> Trace:
        return _simulate(settings, fleet, work, most, scheduler, make_rng())

    most = max(1, num_updates // k) * k
    trace = run(most)
    if trace.ended or bool((np.diff(round_ends(trace), prepend=0) == k).all()):
        return trace
    # Where models are lost, rounds are smaller than k. Which is through shows the next.
    ends = round_ends(run(most + 1))
    whole = int(ends[ends <= most][-1])
    return trace if whole == most else run(whole)


def _simulate(
    settings: ScheduleSettings,
    fleet: Fleet,
    work: TaskWork,
    num_updates: int,
    scheduler: Scheduler,
    rng: np.random.Generator,
) -> Trace:
    return simulate(
        fleet,
        num_updates,
        scheduler=scheduler,
        num_steps=work.num_steps,
        num_bytes=work.num_bytes,
        weights=work.counts if settings.client_choice == "data-size" else None,
        max_tasks=settings.max_tasks_per_client,
        time_out=settings.time_out or math.inf,
        rng=rng,
    )
