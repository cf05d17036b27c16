"""What a local step descends: g(x; z) = f(x; z) + rho/2 ||x - x_tau||^2.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Worker), Option II.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedasync_jax import tree
from fedasync_jax.base import Array, Model, PyTree, Variables


class Objective(NamedTuple):
    """g(x; z) = f(x; z) + rho/2 ||x - x_tau||^2 on the batch of a step.

    Attributes:
      model: f.
      rho: float [], weight of the proximal term; None: there is none.
      anchor: x_tau.
      batch: z.
      key: of the loss.
    """

    model: Model
    rho: Array | None
    anchor: PyTree
    batch: PyTree
    key: Array

    def differentiate(self, variables: Variables) -> tuple[Array, PyTree, PyTree]:
        """Return f(x; z), the new state and the gradient of g."""

        def loss_fn(params: PyTree) -> tuple[Array, PyTree]:
            moved = variables._replace(params=params)
            return self.model.loss(moved, self.batch, self.key)

        gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, state), grads = gradient_fn(variables.params)
        if self.rho is not None:
            away = tree.sub(variables.params, self.anchor)
            grads = tree.add_scaled(grads, self.rho, away)
        return loss, state, grads

    def add_term(self, loss: Array, params: PyTree) -> Array:
        """Return g at ``params``, where f is ``loss``."""
        if self.rho is None:
            return loss
        away = jax.tree.leaves(tree.sub(params, self.anchor))
        squares = sum(jnp.sum(jnp.square(leaf)).astype(loss.dtype) for leaf in away)
        return loss + jnp.asarray(self.rho / 2, loss.dtype) * squares
