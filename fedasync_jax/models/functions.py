"""A ``Model`` from plain functions: any pytree of parameters, no neural library."""

from typing import Protocol

import jax
import jax.numpy as jnp

from fedasync_jax.base import Array, Model, PyTree, Variables


class InitParamsFn(Protocol):
    """Makes the parameters."""

    def __call__(self, key: Array) -> PyTree:
        """Return parameters, a pytree of float arrays."""
        ...


class ParamsLossFn(Protocol):
    """Mean training loss of parameters on one batch."""

    def __call__(self, params: PyTree, batch: PyTree, key: Array) -> Array:
        """Return the loss, float []; the key is for dropout and the like."""
        ...


class ParamsMetricsFn(Protocol):
    """Sums over one batch in evaluation mode."""

    def __call__(self, params: PyTree, batch: PyTree) -> dict[str, Array]:
        """Return sums, each []; ``"count"`` is the number of summands."""
        ...


def make_model(
    init_fn: InitParamsFn,
    loss_fn: ParamsLossFn,
    metrics_fn: ParamsMetricsFn | None = None,
) -> Model:
    """Make a model without non-trainable state from plain functions.

    Without ``metrics_fn`` the metrics of a batch are ``"loss"``, B times ``loss_fn``
    with one fixed key, and ``"count"``, B, the leading size of the batch's arrays.
    That is right for a loss that is a mean over the batch and draws nothing; a loss
    with dropout needs its own ``metrics_fn``.

    Args:
      init_fn: ``init_fn(key) -> params``.
      loss_fn: ``loss_fn(params, batch, key) -> loss``, float [], mean over the batch.
      metrics_fn: ``metrics_fn(params, batch) -> sums`` with a ``"count"``.

    Returns:
      The model; its ``Variables.state`` is ``()``.
    """
    if metrics_fn is None:
        metrics_fn = _make_loss_metrics(loss_fn)

    def init(key: Array) -> Variables:
        return Variables(init_fn(key))

    def loss(variables: Variables, batch: PyTree, key: Array) -> tuple[Array, PyTree]:
        return loss_fn(variables.params, batch, key), variables.state

    def metrics(variables: Variables, batch: PyTree) -> dict[str, Array]:
        return metrics_fn(variables.params, batch)

    return Model(init, loss, metrics)


def _make_loss_metrics(loss_fn: ParamsLossFn) -> ParamsMetricsFn:
    def metrics_fn(params: PyTree, batch: PyTree) -> dict[str, Array]:
        mean = loss_fn(params, batch, jax.random.key(0))
        count = jnp.asarray(jax.tree.leaves(batch)[0].shape[0], mean.dtype)
        return {"loss": mean * count, "count": count}

    return metrics_fn
