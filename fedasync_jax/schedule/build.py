"""From settings to the schedule: a trace, made before anything is trained."""

import math

import numpy as np

from fedasync_jax.fleet.devices import Fleet
from fedasync_jax.schedule.local_steps import TaskWork
from fedasync_jax.schedule.schedulers import SCHEDULES, Rounds, Sampled, Scheduler
from fedasync_jax.schedule.settings import ScheduleSettings
from fedasync_jax.schedule.simulation import sampled_staleness, simulate
from fedasync_jax.schedule.trace import Trace


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
    rng: np.random.Generator,
) -> Trace:
    """Make the schedule of the synchronous methods, of whole rounds.

    Raises:
      ValueError: see ``build_trace``.
    """
    k = settings.clients_per_round
    deadline = settings.round_deadline or math.inf
    scheduler = Rounds(k, settings.over_selection, deadline, settings.round_selection)
    num_updates = max(1, num_updates // k) * k
    return _simulate(settings, fleet, work, num_updates, scheduler, rng)


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
