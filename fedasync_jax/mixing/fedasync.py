"""FedAsync: the mixing rule of the paper.

x_t = (1 - alpha_t) x_{t-1} + alpha_t x_new, alpha_t = alpha s(t - tau).

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Updater) and section 5.2 (adaptive alpha).
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import (
    Array,
    ArrayLike,
    Arrivals,
    Guarded,
    Mixer,
    MixInfo,
    PyTree,
    Schedule,
    StalenessFn,
)
from fedasync_jax.mixing.precomputed import make_weights, weighted
from fedasync_jax.mixing.rates import AlphaSchedule, make_rates


def fedasync(alpha: float | AlphaSchedule, staleness_fn: StalenessFn) -> Mixer:
    r"""Return the rule x <- (1 - alpha s(d)) x + alpha s(d) x_new.

    .. math::

        x_t = (1 - \alpha_t) x_{t-1} + \alpha_t x_{new},
        \quad \alpha_t = \alpha \, s(t - 1 - \tau)

    Args:
      alpha: mixing hyperparameter in (0, 1], or a schedule of the version: a function
        of the number of updates made before this one (0 for the first), such as an
        optax schedule, with values in (0, 1].
      staleness_fn: s(d).

    Raises:
      ValueError: if ``alpha`` is a number outside (0, 1].
    """
    if not callable(alpha) and not 0 < alpha <= 1:
        raise ValueError(f"alpha must be in (0, 1], got {alpha}")

    def base_fn(version: Array) -> ArrayLike:
        if not callable(alpha):
            return alpha
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules rely on it
            return alpha(version)

    def init_fn(model: PyTree) -> PyTree:
        del model
        return ()

    def update_fn(
        local: PyTree,
        state: PyTree,
        current: PyTree,
        *,
        start: PyTree,
        staleness: Array,
        version: Array,
        client: Array,
    ) -> tuple[PyTree, PyTree, MixInfo]:
        del start, client
        weight = jnp.asarray(base_fn(version), float) * staleness_fn(staleness)
        mixed = tree.lerp(current, local, weight)
        return mixed, state, MixInfo(alpha=weight, applied=jnp.asarray(True))

    def check_fn(schedule: Schedule) -> None:
        if callable(alpha):
            make_rates(alpha, schedule.num_updates)

    def weights_fn(arrivals: Arrivals) -> np.ndarray:
        return make_weights(alpha, staleness_fn, arrivals.staleness)

    update = jax.tree_util.Partial(Guarded(update_fn, check_fn, linear=True))
    return Mixer(init_fn, update, weights=weights_fn, with_weights=weighted)
