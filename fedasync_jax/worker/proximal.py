"""The proximal term rho/2 ||x - x_tau||^2 of the Worker, as an optax transformation.

The anchor x_tau is the model that the worker received: every task makes a fresh
optimizer state from that very model.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Worker), Option II.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedasync_jax import tree
from fedasync_jax.base import Array, PyTree
from fedasync_jax.worker.optimizer import update_with_loss


class ProximalState(NamedTuple):
    """State of ``add_proximal``.

    Attributes:
      anchor: x_tau, the parameters that ``init`` was given.
    """

    anchor: PyTree


def check_rho(rho: float) -> None:
    """Raise ValueError if the weight of a proximal term is negative or not finite."""
    if not 0 <= rho < math.inf:
        raise ValueError(f"rho must be finite and >= 0, got {rho}")


def add_proximal(rho: float | Array) -> optax.GradientTransformation:
    """Add rho (x - x_tau), the gradient of rho/2 ||x - x_tau||^2.

    x_tau is what ``init`` is given. It composes: ``optax.chain(add_proximal(rho),
    optax.sgd(step_size))`` makes the steps of Algorithm 1.

    It belongs BEFORE the optimizer that turns gradients into steps. Behind it, as in
    ``optax.chain(optax.sgd(step_size), add_proximal(rho))``, the term would push away
    from x_tau, and without a step size. ``make_local_update`` refuses such a chain,
    unless a function of ``numbers`` makes it; its argument ``rho`` cannot be put in the
    wrong place.

    Args:
      rho: weight of the proximal term, >= 0 (not its product with the step size). An
        array is not looked at, as it may have no value yet.

    Raises:
      ValueError: if ``rho`` is negative or not finite.
    """
    if not isinstance(rho, jax.Array):
        check_rho(rho)
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


def check_order(optimizer: optax.GradientTransformation, params: PyTree) -> None:
    """Raise ValueError if ``add_proximal`` stands behind the step size in a chain.

    The chain is asked, with no gradient, on a model of one number a leaf: away from its
    anchor, the step must not lead further away.

    Args:
      optimizer: of any kind; one without ``add_proximal`` passes.
      params: of the model, or tracers of its shapes; the values are not used.
    """
    held = jax.eval_shape(optimizer.init, params)
    if not any(isinstance(node, ProximalState) for node in _list_nodes(held)):
        return
    with jax.ensure_compile_time_eval():
        anchor = jax.tree.map(
            lambda x: jnp.zeros((1,) * jnp.ndim(x), jnp.result_type(x)), params
        )
        state = optimizer.init(anchor)

        def step_from(place: PyTree) -> PyTree:
            task = optimizer, anchor, state, place
            return update_with_loss(*task, jnp.zeros(()), lambda _: jnp.zeros(()))[0]

        # Noise and the like is in both steps.
        change = tree.sub(
            step_from(jax.tree.map(jnp.ones_like, anchor)), step_from(anchor)
        )
        outward = sum(float(np.sum(leaf)) for leaf in jax.tree.leaves(change))
    if outward > 0:
        raise ValueError(
            "add_proximal must stand before the optimizer in a chain, got it behind "
            "the step size, where it pushes away from the received model (or set rho "
            "of make_local_update instead)"
        )


def _list_nodes(state: PyTree) -> list[object]:
    return jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, ProximalState))
