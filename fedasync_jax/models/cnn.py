"""A small convolutional network for images from 8 by 8 to 32 by 32."""

from collections.abc import Callable, Sequence
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp

from fedasync_jax.base import Array
from fedasync_jax.models.convolution import conv_as_matmul
from fedasync_jax.parts.bounds import at_least


class CNN(nn.Module):
    """Two times 3x3 convolution, ReLU and 2x2 maximum, then one dense layer.

    Attributes:
      num_classes: K, the number of logits.
      features: channels of the convolutions, in order.
      conv_general_dilated: a function with the arguments and the meaning of
        ``jax.lax.conv_general_dilated``. The default is the faster in a rolled loop on
        a CPU and under ``vmap`` with one kernel per worker.
    """

    num_classes: int
    features: Sequence[int] = (16, 32)
    conv_general_dilated: Callable[..., Array] = conv_as_matmul

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Return the logits.

        Args:
          x: images, float [B, H, W, C]; H and W at least 4.
          train: unused; every model takes it.

        Returns:
          Logits, float [B, K].
        """
        del train
        for channels in self.features:
            x = nn.Conv(
                channels, (3, 3), conv_general_dilated=self.conv_general_dilated
            )(x)
            x = max_pool(nn.relu(x))
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))


def max_pool(images: Array) -> Array:
    """Return the maxima of 2x2 pixels; an odd last row or column is left out."""
    # The gradient of flax's max_pool is a scatter, sixteen times slower on a CPU.
    height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
    top, bottom = images[:, 0:height:2], images[:, 1:height:2]
    rows = jnp.maximum(top, bottom)
    return jnp.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])


def make_cnn(
    sample_shape: Sequence[int],
    num_classes: int,
    conv_general_dilated: Callable[..., Array],
    features: Sequence[Annotated[int, at_least(1)]] = (16, 32),
) -> nn.Module:
    """Return the checked network for images of a shape.

    Args:
      sample_shape: (height, width, channels).
      num_classes: K.
      conv_general_dilated: see ``CNN``.
      features: channels of the convolutions.

    Raises:
      ValueError: if the shape is not that of an image of 4 by 4 or more.
    """
    if len(sample_shape) != 3 or min(sample_shape[:2]) < 4:
        raise ValueError(
            "sample_shape of cnn must be (height, width, channels) with height and "
            f"width >= 4, got {tuple(sample_shape)}"
        )
    return CNN(num_classes, tuple(features), conv_general_dilated)
