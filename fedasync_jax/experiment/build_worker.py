"""From settings to the Worker: clip, decay, proximal term, then the step of SGD."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax

from fedasync_jax.base import Array, LocalUpdate
from fedasync_jax.experiment.records import Workload
from fedasync_jax.schedule.local_steps import largest_steps
from fedasync_jax.worker.local_update import make_local_update
from fedasync_jax.worker.proximal import add_proximal
from fedasync_jax.worker.settings import WorkerSettings


def make_worker(
    settings: WorkerSettings, workload: Workload, *, rho: float = 0.0
) -> LocalUpdate:
    """Return the local update.

    Step size and rho are arguments of its program, so that others share it.

    Args:
      settings: of the local work.
      workload: what is learned from what.
      rho: weight of the proximal term.
    """
    make_optimizer = _choose_optimizer(
        settings.momentum, settings.weight_decay, settings.clip_norm, rho > 0
    )
    return make_local_update(
        workload.model,
        workload.clients,
        make_optimizer,
        batch_size=settings.batch_size,
        max_steps=largest_steps(workload.steps),
        sampling=settings.sampling,
        unroll=workload.unroll,
        numbers=np.array([settings.step_size, rho], np.float32),
    )


@functools.cache
def _choose_optimizer(
    momentum: float, weight_decay: float, clip_norm: float | None, is_proximal: bool
) -> Callable[[Array], optax.GradientTransformation]:
    """Return a function of step size and rho; the same one for the same arguments."""

    def make_optimizer(numbers: Array) -> optax.GradientTransformation:
        step_size, rho = jnp.asarray(numbers)
        chain: list[optax.GradientTransformation] = []
        if clip_norm is not None:
            chain.append(optax.clip_by_global_norm(clip_norm))
        if weight_decay:
            chain.append(optax.add_decayed_weights(weight_decay))
        if is_proximal:
            chain.append(add_proximal(rho))
        return optax.chain(*chain, optax.sgd(step_size, momentum or None))

    return make_optimizer
