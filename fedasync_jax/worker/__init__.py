"""The Worker: local steps with the proximal term, and how a model is judged."""

from fedasync_jax.worker.client_evaluation import (
    ClientSpread,
    make_client_evaluate,
    spread_over_clients,
)
from fedasync_jax.worker.evaluation import make_evaluate
from fedasync_jax.worker.local_update import make_local_update
from fedasync_jax.worker.proximal import add_proximal
from fedasync_jax.worker.sampling import steps_per_task

__all__ = [
    "ClientSpread",
    "add_proximal",
    "make_client_evaluate",
    "make_evaluate",
    "make_local_update",
    "spread_over_clients",
    "steps_per_task",
]
