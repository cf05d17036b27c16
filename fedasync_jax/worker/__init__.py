"""The Worker: local steps with the proximal term, and how a model is judged."""

from fedasync_jax.worker.evaluation import make_evaluate
from fedasync_jax.worker.local_update import make_local_update
from fedasync_jax.worker.proximal import add_proximal
from fedasync_jax.worker.sampling import steps_per_task

__all__ = ["add_proximal", "make_evaluate", "make_local_update", "steps_per_task"]
