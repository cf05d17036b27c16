"""One task on the device: a local update, and whether its result may be mixed.

It is a function of its own under jit, so that it is traced once for all rules and sizes
of a chunk. XLA puts it in the place of its calls.
"""

import functools

import jax

from fedasync_jax import tree
from fedasync_jax.base import Array, LocalUpdate, Variables


@functools.partial(jax.jit, static_argnames="common_steps")
def train_task(
    local_update: LocalUpdate,
    start: Variables,
    client: Array,
    key: Array,
    num_steps: Array,
    scale: Array | None,
    *,
    common_steps: int | None,
) -> tuple[Variables, Array, Array]:
    """Return the trained model, whether all of it is finite, and the mean loss.

    Args:
      local_update: the Worker, a pytree.
      start: x_tau.
      client: int32 [].
      key: of the task.
      num_steps: H, int32 [].
      scale: factor on the step size; None: the Worker is not given any.
      common_steps: H if it is the same for all tasks.
    """
    steps = num_steps if common_steps is None else common_steps
    more = () if scale is None else (scale,)
    local, info = local_update(start, client, key, steps, *more)
    return local, tree.all_finite(local), info.loss
