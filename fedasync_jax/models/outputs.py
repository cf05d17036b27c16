"""A ``Model`` from a network, as any neural library has it, and a loss of its outputs.

Shapes: B samples a batch, K classes.
"""

from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp
import optax

from fedasync_jax.base import Array, Model, PyTree, Variables


class ApplyFn(Protocol):
    """A network, as a function."""

    def __call__(
        self, variables: Variables, x: PyTree, key: Array | None, /
    ) -> tuple[PyTree, PyTree]:
        """Return the outputs and the new ``variables.state``.

        Args:
          variables: of the network.
          x: ``batch["x"]``, leaves [B, ...].
          key: for dropout and the like in training; None: evaluation mode.
        """
        ...


class OutputLossFn(Protocol):
    """Loss of every sample of a batch, given what the network says of it."""

    def __call__(self, outputs: PyTree, batch: PyTree, /) -> Array:
        """Return float [B], or [B, ...] where a sample has several losses."""
        ...


class OutputMetricsFn(Protocol):
    """Sums over a batch in evaluation mode, given what the network says of it."""

    def __call__(self, outputs: PyTree, batch: PyTree, /) -> dict[str, Array]:
        """Return sums, each []; ``"count"`` is the number of summands."""
        ...


def from_apply(
    init_fn: Callable[[Array], Variables],
    apply_fn: ApplyFn,
    *,
    loss_fn: OutputLossFn | None = None,
    metrics_fn: OutputMetricsFn | None = None,
) -> Model:
    """Make a model from a network as two functions, such as those of haiku.

    A batch is a dictionary, whose ``"x"`` the network is given; the rest is for the
    loss. The training loss is the mean of ``loss_fn`` over the batch.

    Args:
      init_fn: ``init_fn(key) -> Variables``.
      apply_fn: ``apply_fn(variables, x, key) -> (outputs, state)``, see ``ApplyFn``.
      loss_fn: ``loss_fn(outputs, batch) -> float [B]``, such as ``squared_error``;
        default: classification, the cross-entropy of the softmax with ``batch["y"]``,
        int [B]. Labels may have more axes, such as [B, L] with logits [B, L, K].
      metrics_fn: ``metrics_fn(outputs, batch) -> sums`` with a ``"count"``; default:
        ``"loss"`` and, of a classification, ``"correct"``.

    Raises:
      ValueError: when it is traced, if the outputs have another shape than the loss
        expects.
    """
    if metrics_fn is None:
        metrics_fn = classification_metrics if loss_fn is None else sum_losses(loss_fn)
    loss_of = classification_loss if loss_fn is None else loss_fn

    def loss(variables: Variables, batch: PyTree, key: Array) -> tuple[Array, PyTree]:
        outputs, state = apply_fn(variables, batch["x"], key)
        return jnp.mean(loss_of(outputs, batch)), state

    def metrics(variables: Variables, batch: PyTree) -> dict[str, Array]:
        outputs, _ = apply_fn(variables, batch["x"], None)
        return metrics_fn(outputs, batch)

    return Model(init_fn, loss, metrics)


def classification_loss(outputs: Array, batch: PyTree) -> Array:
    """Return the cross-entropy of the softmax, of the shape of ``batch["y"]``.

    Args:
      outputs: logits, float [B, K]; or [B, L, K] for L labels a sample.
      batch: with ``"y"``, int [B] or [B, L], in 0..K-1.

    Raises:
      ValueError: if the outputs are not one logit for every class of every label.
    """
    return cross_entropy(outputs, batch["y"])


def classification_metrics(outputs: Array, batch: PyTree) -> dict[str, Array]:
    """Return float sums over all labels: ``"loss"``, ``"correct"``, ``"count"``."""
    return sum_metrics(jnp.asarray(outputs), batch["y"])


def squared_error(outputs: Array, batch: PyTree) -> Array:
    """Return the squared error of a regression, float [B].

    l_b = mean over the entries of (outputs_b - y_b)^2, computed in float32 or wider.

    Args:
      outputs: float [B, ...].
      batch: with ``"y"``, float of the same shape.

    Raises:
      ValueError: if the shapes differ; [B, 1] beside [B] would make B x B errors.
    """
    outputs, y = _widen(jnp.asarray(outputs)), jnp.asarray(batch["y"])
    if outputs.shape != y.shape:
        raise ValueError(
            f"the model must return outputs of the shape of y, {y.shape}, got "
            f"{outputs.shape}"
        )
    squares = jnp.square(outputs - y.astype(outputs.dtype))
    return jnp.mean(squares.reshape(len(squares), -1), axis=1)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the cross-entropy of each label, of the shape of ``labels``."""
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            "the model must return logits of the shape of y and an axis of classes, "
            f"{(*labels.shape, 'K')}, got {logits.shape}"
        )
    return optax.softmax_cross_entropy_with_integer_labels(_widen(logits), labels)


def sum_metrics(logits: Array, labels: Array) -> dict[str, Array]:
    """Return float sums over all labels: ``"loss"``, ``"correct"``, ``"count"``."""
    losses = cross_entropy(logits, labels)  # a sum in bfloat16 ends at 256
    correct = jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels
    return {
        "loss": jnp.sum(losses),
        "correct": jnp.sum(correct, dtype=losses.dtype),
        "count": jnp.asarray(losses.size, losses.dtype),
    }


def sum_losses(loss_fn: OutputLossFn) -> OutputMetricsFn:
    """Return metrics of a loss alone: the sums ``"loss"`` and ``"count"``."""

    def metrics_fn(outputs: PyTree, batch: PyTree) -> dict[str, Array]:
        losses = _widen(jnp.asarray(loss_fn(outputs, batch)))
        count = jnp.asarray(losses.size, losses.dtype)
        return {"loss": jnp.sum(losses), "count": count}

    return metrics_fn


def _widen(values: Array) -> Array:
    return values.astype(jnp.float32) if values.dtype.itemsize < 4 else values
