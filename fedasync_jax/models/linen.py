"""A ``Model`` from a flax linen classifier."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from fedasync_jax.base import Array, ArrayLike, Model, PyTree, Variables


def from_linen(module: nn.Module, sample_input: ArrayLike) -> Model:
    """Make a model from a linen module that maps inputs to the logits of K classes.

    A batch is ``{"x": [B, ...], "y": int [B]}``. The module is called as
    ``module.apply(variables, x, train=bool)`` and returns float [B, K]; in training
    it may draw from the stream ``"dropout"`` and change any of its collections.

    The loss is the mean cross-entropy of the softmax. The metrics, in evaluation mode,
    are float sums over the batch: ``"loss"``, ``"correct"`` and ``"count"``. Labels may
    have more axes than one, such as [B, L] for the tokens of a text with logits
    [B, L, K]; then means and counts are over all B L labels.

    Args:
      module: linen module whose ``__call__`` takes ``(x, train)``.
      sample_input: [1, ...], one input of the right shape and dtype; values unused.

    Returns:
      The model; ``Variables.state`` holds every collection but ``"params"``, such as
      ``batch_stats``, and is ``()`` when there is none.
    """

    def init(key: Array) -> Variables:
        collections = dict(module.init(key, sample_input, train=False))
        params = collections.pop("params", {})
        return Variables(params, collections or ())

    def loss(variables: Variables, batch: PyTree, key: Array) -> tuple[Array, PyTree]:
        logits, state = module.apply(
            _join_collections(variables),
            batch["x"],
            train=True,
            mutable=list(variables.state),
            rngs={"dropout": key},
        )
        return jnp.mean(cross_entropy(logits, batch["y"])), state or ()

    def metrics(variables: Variables, batch: PyTree) -> dict[str, Array]:
        logits = module.apply(_join_collections(variables), batch["x"], train=False)
        return sum_metrics(jnp.asarray(logits), batch["y"])

    return Model(init, loss, metrics)


def _join_collections(variables: Variables) -> dict[str, Any]:
    return {"params": variables.params, **dict(variables.state)}


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the cross-entropy of each label, of the shape of ``labels``."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def sum_metrics(logits: Array, labels: Array) -> dict[str, Array]:
    """Return float sums over all labels: ``"loss"``, ``"correct"``, ``"count"``."""
    losses = cross_entropy(logits, labels)
    correct = jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels
    return {
        "loss": jnp.sum(losses),
        "correct": jnp.sum(correct, dtype=losses.dtype),
        "count": jnp.asarray(losses.size, losses.dtype),
    }
