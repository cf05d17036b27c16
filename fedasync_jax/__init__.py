"""FedAsync in JAX: asynchronous federated optimization, exact and batched.

``train`` compares methods in one call. Every part is usable alone; ``run`` is
Algorithm 1 over a ``Trace``. See the README.
"""

from importlib.metadata import version

from fedasync_jax import base, data, engine, fleet, mixing, models, schedule, worker
from fedasync_jax.base import Mixer, Model, Variables
from fedasync_jax.engine import Batching, Run, run, run_many
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.fleet import make_fleet
from fedasync_jax.jobs.results import TrainResults
from fedasync_jax.jobs.training import train
from fedasync_jax.mixing import staleness
from fedasync_jax.schedule import (
    Immediate,
    Periodic,
    Rounds,
    sampled_staleness,
    simulate,
)
from fedasync_jax.storage.models import load_model, save_model
from fedasync_jax.worker import (
    add_proximal,
    make_client_evaluate,
    make_evaluate,
    make_local_update,
    spread_over_clients,
)

__version__ = version("fedasync-jax")

__all__ = [
    "Batching",
    "Immediate",
    "Mixer",
    "Model",
    "Periodic",
    "Rounds",
    "Run",
    "Settings",
    "TrainResults",
    "Variables",
    "__version__",
    "add_proximal",
    "base",
    "data",
    "engine",
    "fleet",
    "load_model",
    "make_client_evaluate",
    "make_evaluate",
    "make_fleet",
    "make_local_update",
    "make_settings",
    "mixing",
    "models",
    "run",
    "run_many",
    "sampled_staleness",
    "save_model",
    "schedule",
    "simulate",
    "spread_over_clients",
    "staleness",
    "train",
    "worker",
]
