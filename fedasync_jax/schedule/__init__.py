"""The Scheduler: who trains when, from which version; NumPy only."""

from fedasync_jax.schedule.invariants import find_violations
from fedasync_jax.schedule.local_steps import TimeBudget
from fedasync_jax.schedule.schedulers import SCHEDULES, Immediate, Periodic, Rounds
from fedasync_jax.schedule.simulation import sampled_staleness, simulate
from fedasync_jax.schedule.trace import Trace, assign_slots, make_waves, round_ends

__all__ = [
    "SCHEDULES",
    "Immediate",
    "Periodic",
    "Rounds",
    "TimeBudget",
    "Trace",
    "assign_slots",
    "find_violations",
    "make_waves",
    "round_ends",
    "sampled_staleness",
    "simulate",
]
