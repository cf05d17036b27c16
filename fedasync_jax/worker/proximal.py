"""The proximal term rho/2 ||x - x_tau||^2 of the Worker, as an optax transformation.

The anchor x_tau is the model that the worker received: every task makes a fresh
optimizer state from that very model.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Worker), Option II.
"""

import math
from typing import NamedTuple

import jax
import optax

from fedasync_jax import tree
from fedasync_jax.base import Array, PyTree


class ProximalState(NamedTuple):
    """State of ``add_proximal``.

    Attributes:
      anchor: x_tau, the parameters that ``init`` was given.
    """

    anchor: PyTree


def add_proximal(rho: float | Array) -> optax.GradientTransformation:
    """Add rho (x - x_tau), the gradient of rho/2 ||x - x_tau||^2.

    x_tau is what ``init`` is given. It composes: ``optax.chain(add_proximal(rho),
    optax.sgd(step_size))`` makes the steps of Algorithm 1.

    Args:
      rho: weight of the proximal term, >= 0 (not its product with the step size). An
        array is not looked at, as it may have no value yet.

    Raises:
      ValueError: if ``rho`` is negative or not finite.
    """
    if not isinstance(rho, jax.Array):
        if not 0 <= rho < math.inf:
            raise ValueError(f"rho must be finite and >= 0, got {rho}")
        if rho == 0:
            return optax.identity()

    def init_fn(params: PyTree) -> ProximalState:
        return ProximalState(anchor=params)

    def update_fn(
        updates: PyTree, state: PyTree, params: PyTree | None = None
    ) -> tuple[PyTree, PyTree]:
        if params is None:
            raise ValueError("add_proximal: update needs params, got None")
        return tree.add_scaled(updates, rho, tree.sub(params, state.anchor)), state

    return optax.GradientTransformation(init_fn, update_fn)
