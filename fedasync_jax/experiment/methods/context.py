"""What the methods of an experiment are made from."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedasync_jax.experiment.records import Method, Workload
from fedasync_jax.fleet.devices import Fleet
from fedasync_jax.mixing.settings import MixingSettings
from fedasync_jax.schedule.local_steps import TaskWork
from fedasync_jax.schedule.settings import ScheduleSettings
from fedasync_jax.schedule.trace import Trace
from fedasync_jax.worker.settings import WorkerSettings


class Context(NamedTuple):
    """What the methods of an experiment are made from; each reads its own.

    Attributes:
      workload: what is learned from what.
      fleet: the devices.
      trace: schedule of all asynchronous methods.
      work: what a task is, for other schedules.
      num_updates: T of the asynchronous methods.
      eval_every: updates between evaluations.
      worker: settings of the local work.
      mixing: settings of the Updater.
      schedule: settings of the schedule.
      make_rng: returns the generator of a purpose.
    """

    workload: Workload
    fleet: Fleet
    trace: Trace
    work: TaskWork
    num_updates: int
    eval_every: int
    worker: WorkerSettings
    mixing: MixingSettings
    schedule: ScheduleSettings
    make_rng: Callable[[str], np.random.Generator]


MakeMethod = Callable[[Context], Method]
