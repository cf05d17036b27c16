"""FedAsync in JAX: asynchronous federated optimization, exact and batched.

Every part is usable alone; ``run`` is Algorithm 1 over a ``Trace``. See the README.
"""

from importlib.metadata import version

from fedasync_jax import availability, baselines, data, fleet, mixing, models, staleness
from fedasync_jax.base import (
    ClientData,
    LocalInfo,
    LocalUpdate,
    Mixer,
    MixInfo,
    Model,
    StalenessFn,
    Variables,
)
from fedasync_jax.batching import Batching, choose_batching
from fedasync_jax.engine import RunResult, RunState, Wave, init_state, iterate, run
from fedasync_jax.evaluation import make_evaluate
from fedasync_jax.exports import load_model, save_model
from fedasync_jax.fleet import Fleet, Network, make_fleet, make_network
from fedasync_jax.history import Evaluation, Updates
from fedasync_jax.invariants import find_violations
from fedasync_jax.local import add_proximal, make_local_update, steps_per_task
from fedasync_jax.schedule import sampled_staleness, simulate
from fedasync_jax.schedulers import Immediate, Periodic, Rounds
from fedasync_jax.step_scales import StepScales, reduce_on_plateau
from fedasync_jax.steps import TimeBudget
from fedasync_jax.trace import Trace, assign_slots, make_waves

__version__ = version("fedasync-jax")

__all__ = [
    "Batching",
    "ClientData",
    "Evaluation",
    "Fleet",
    "Immediate",
    "LocalInfo",
    "LocalUpdate",
    "MixInfo",
    "Mixer",
    "Model",
    "Network",
    "Periodic",
    "Rounds",
    "RunResult",
    "RunState",
    "StalenessFn",
    "StepScales",
    "TimeBudget",
    "Trace",
    "Updates",
    "Variables",
    "Wave",
    "__version__",
    "add_proximal",
    "assign_slots",
    "availability",
    "baselines",
    "choose_batching",
    "data",
    "find_violations",
    "fleet",
    "init_state",
    "iterate",
    "load_model",
    "make_evaluate",
    "make_fleet",
    "make_local_update",
    "make_network",
    "make_waves",
    "mixing",
    "models",
    "reduce_on_plateau",
    "run",
    "sampled_staleness",
    "save_model",
    "simulate",
    "staleness",
    "steps_per_task",
]
