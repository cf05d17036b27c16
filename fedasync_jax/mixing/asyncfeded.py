"""AsyncFedED: the weight follows the distance that the model went meanwhile.

gamma = ||x - x_tau|| / ||Delta||, x <- x + lambda / (gamma + eps) Delta.

Reference: Wang et al., "AsyncFedED: Asynchronous Federated Learning with Euclidean
Distance based Adaptive Weight Aggregation", arXiv 2205.13797. The formula was read from
other code. There, the number of local steps follows gamma as well; here it does not,
since a schedule does not depend on the models.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Mixer, MixInfo, PyTree
from fedasync_jax.mixing.by_weight import nothing
from fedasync_jax.parts.bounds import above
from fedasync_jax.parts.registry import checked


@checked
def asyncfeded(
    step: Annotated[float, above(0)] = 0.5, eps: Annotated[float, above(0)] = 1.0
) -> Mixer:
    r"""Return the rule x <- x + lambda / (gamma + eps) (y - x_tau).

    .. math::

        x \leftarrow x + \frac{\lambda}{\gamma + \epsilon} \Delta,
        \quad \gamma = \frac{\|x - x_\tau\|}{\|\Delta\|},
        \quad \Delta = y - x_\tau

    With lambda = eps it adds the whole change of a client that is not stale.

    Args:
      step: factor on the change (lambda), > 0.
      eps: number added to gamma, > 0; without staleness the weight is lambda / eps.

    Raises:
      ValueError: if a setting is out of range.
    """
    numbers = np.float32(step), np.float32(eps)
    return Mixer(nothing, jax.tree_util.Partial(_update, *numbers))


def _update(
    step: Array,
    eps: Array,
    local: PyTree,
    state: PyTree,
    current: PyTree,
    *,
    start: PyTree,
    staleness: Array,
    version: Array,
    client: Array,
) -> tuple[PyTree, PyTree, MixInfo]:
    del staleness, version, client
    change = tree.sub(local, start)
    gone, length = tree.norm(tree.sub(current, start)), tree.norm(change)
    # lambda / (gamma + eps), with ||Delta|| = 0 allowed.
    bottom = gone + eps * length
    weight = step * length / jnp.where(bottom > 0, bottom, 1.0)
    mixed = tree.add_scaled(current, weight, change)
    return mixed, state, MixInfo(alpha=weight, applied=jnp.asarray(True))
