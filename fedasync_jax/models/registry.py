"""Models by name: classifiers, and language models of texts.

A new model is a factory, here or anywhere, and an entry. A classifier gets those of
``sample_shape``, ``num_classes`` and ``conv_general_dilated`` that it names, and makes
a flax module or a ``Model``; a language model gets ``vocab_size`` and ``columns``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from fedasync_jax.base import Array, Model
from fedasync_jax.models.cnn import make_cnn
from fedasync_jax.models.convolution import conv_as_matmul
from fedasync_jax.models.linen import from_linen
from fedasync_jax.models.lstm import make_lstm
from fedasync_jax.models.mlp import make_mlp
from fedasync_jax.models.paper_cnn import make_paper_module
from fedasync_jax.parts.registry import Registry

CLASSIFIERS: Registry[nn.Module | Model] = Registry("name")
CLASSIFIERS.register("mlp", make_mlp)
CLASSIFIERS.register("cnn", make_cnn)
CLASSIFIERS.register(
    "paper-cnn", make_paper_module, channels="cnn_channels", hidden="cnn_hidden"
)

LANGUAGE_MODELS: Registry[Model] = Registry("name")
LANGUAGE_MODELS.register(
    "lstm", make_lstm, size="lstm_size", layers="lstm_layers", biases="lstm_biases"
)


def make_classifier(
    name: str,
    sample_shape: Sequence[int],
    num_classes: int,
    *,
    conv_general_dilated: Callable[..., Array] = conv_as_matmul,
    settings: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Model:
    """Make a classifier by name.

    Args:
      name: one of ``CLASSIFIERS``.
      sample_shape: shape of one input, without the batch axis; networks that convolve
        want an image, (height, width, channels).
      num_classes: K, at least 2.
      conv_general_dilated: the convolution of "cnn" and "paper-cnn".
      settings: by their names, such as ``cnn_channels``.
      **arguments: of the factory, such as ``hidden``; those of others are not read.

    Raises:
      ValueError: for an unknown name or a number or shape out of range.

    Returns:
      A model of batches ``{"x": float [B, *sample_shape], "y": int [B]}``.
    """
    CLASSIFIERS.find(name)
    if not sample_shape or min(sample_shape) < 1:
        raise ValueError(
            f"sample_shape must be one or more numbers >= 1, got {tuple(sample_shape)}"
        )
    if num_classes < 2:
        raise ValueError(f"num_classes must be >= 2, got {num_classes}")
    made = CLASSIFIERS.make(
        name,
        settings or {},
        sample_shape=tuple(sample_shape),
        num_classes=num_classes,
        conv_general_dilated=conv_general_dilated,
        **arguments,
    )
    if isinstance(made, Model):
        return made
    return from_linen(made, jnp.zeros((1, *sample_shape)))
