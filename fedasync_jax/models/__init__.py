"""What can be trained: ready classifiers, and models from flax or plain functions."""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp

from fedasync_jax.base import Model
from fedasync_jax.models.cnn import CNN
from fedasync_jax.models.convolution import (
    CONVOLUTIONS,
    Convolution,
    choose_convolution,
    conv_as_matmul,
)
from fedasync_jax.models.functions import make_model
from fedasync_jax.models.linen import from_linen
from fedasync_jax.models.lstm import make_lstm_lm
from fedasync_jax.models.mlp import MLP
from fedasync_jax.models.paper_cnn import PaperCNN, make_paper_cnn

__all__ = [
    "CLASSIFIERS",
    "CNN",
    "CONVOLUTIONS",
    "MLP",
    "Convolution",
    "PaperCNN",
    "choose_convolution",
    "conv_as_matmul",
    "from_linen",
    "make_classifier",
    "make_lstm_lm",
    "make_model",
    "make_paper_cnn",
]


def make_classifier(
    name: str,
    sample_shape: Sequence[int],
    num_classes: int,
    *,
    hidden: Sequence[int] = (64,),
) -> Model:
    """Make a classifier by name.

    Args:
      name: one of ``CLASSIFIERS``.
      sample_shape: shape of one input, without the batch axis; "cnn" wants an image,
        (height, width, channels).
      num_classes: K, at least 2.
      hidden: widths of the hidden layers of "mlp"; others do not read it.

    Raises:
      ValueError: for an unknown name or a number or shape out of range.

    Returns:
      A model of batches ``{"x": float [B, *sample_shape], "y": int [B]}``.
    """
    if name not in CLASSIFIERS:
        allowed = ", ".join(CLASSIFIERS)
        raise ValueError(f"name must be one of {allowed}, got {name!r}")
    if not sample_shape or min(sample_shape) < 1:
        raise ValueError(
            f"sample_shape must be one or more numbers >= 1, got {tuple(sample_shape)}"
        )
    if num_classes < 2:
        raise ValueError(f"num_classes must be >= 2, got {num_classes}")
    module = CLASSIFIERS[name](tuple(sample_shape), num_classes, tuple(hidden))
    return from_linen(module, jnp.zeros((1, *sample_shape)))


def _make_mlp(
    sample_shape: tuple[int, ...], num_classes: int, hidden: tuple[int, ...]
) -> nn.Module:
    del sample_shape
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden must be numbers >= 1, got {hidden}")
    return MLP(hidden, num_classes)


def _make_cnn(
    sample_shape: tuple[int, ...], num_classes: int, hidden: tuple[int, ...]
) -> nn.Module:
    del hidden
    if len(sample_shape) != 3 or min(sample_shape[:2]) < 4:
        raise ValueError(
            "sample_shape of cnn must be (height, width, channels) with height and "
            f"width >= 4, got {sample_shape}"
        )
    return CNN(num_classes)


CLASSIFIERS: Mapping[str, Callable[..., nn.Module]] = {
    "mlp": _make_mlp,
    "cnn": _make_cnn,
}
