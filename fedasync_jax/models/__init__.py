"""What can be trained: ready classifiers, and models from flax or plain functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from fedasync_jax.base import Array, Model
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
from fedasync_jax.models.paper_cnn import (
    PaperCNN,
    make_paper_cnn,
    make_paper_module,
    normalize_inputs,
)

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
    "normalize_inputs",
]


def make_classifier(
    name: str,
    sample_shape: Sequence[int],
    num_classes: int,
    *,
    hidden: Sequence[int] = (64,),
    channels: Sequence[int] = (64, 128),
    dense: int = 512,
    dropout: float = 0.25,
    conv_general_dilated: Callable[..., Array] = conv_as_matmul,
) -> Model:
    """Make a classifier by name.

    Args:
      name: one of ``CLASSIFIERS``.
      sample_shape: shape of one input, without the batch axis; networks that convolve
        want an image, (height, width, channels).
      num_classes: K, at least 2.
      hidden: widths of the hidden layers of "mlp"; others do not read it.
      channels: channels of the blocks of "paper-cnn".
      dense: width of its hidden dense layer.
      dropout: share of entries that its dropout sets to zero, in [0, 1).
      conv_general_dilated: the convolution of "cnn" and "paper-cnn".

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
    options = _Options(
        tuple(hidden), tuple(channels), dense, dropout, conv_general_dilated
    )
    module = CLASSIFIERS[name](tuple(sample_shape), num_classes, options)
    return from_linen(module, jnp.zeros((1, *sample_shape)))


class _Options(NamedTuple):
    """Arguments of ``make_classifier`` that only some networks read."""

    hidden: tuple[int, ...]
    channels: tuple[int, ...]
    dense: int
    dropout: float
    conv_general_dilated: Callable[..., Array]


def _make_mlp(
    sample_shape: tuple[int, ...], num_classes: int, options: _Options
) -> nn.Module:
    del sample_shape
    if any(width < 1 for width in options.hidden):
        raise ValueError(f"hidden must be numbers >= 1, got {options.hidden}")
    return MLP(options.hidden, num_classes)


def _make_cnn(
    sample_shape: tuple[int, ...], num_classes: int, options: _Options
) -> nn.Module:
    if len(sample_shape) != 3 or min(sample_shape[:2]) < 4:
        raise ValueError(
            "sample_shape of cnn must be (height, width, channels) with height and "
            f"width >= 4, got {sample_shape}"
        )
    return CNN(num_classes, conv_general_dilated=options.conv_general_dilated)


def _make_paper_cnn(
    sample_shape: tuple[int, ...], num_classes: int, options: _Options
) -> nn.Module:
    return make_paper_module(sample_shape, num_classes, *options[1:])


CLASSIFIERS: Mapping[str, Callable[..., nn.Module]] = {
    "mlp": _make_mlp,
    "cnn": _make_cnn,
    "paper-cnn": _make_paper_cnn,
}
