"""A multi-layer perceptron."""

from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn

from fedasync_jax.base import Array
from fedasync_jax.parts.bounds import at_least


class MLP(nn.Module):
    """Flatten, then dense layers with ReLU between them.

    Attributes:
      hidden: widths of the hidden layers; empty for a linear model.
      num_classes: K, the number of logits.
    """

    hidden: Sequence[int]
    num_classes: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Return the logits.

        Args:
          x: float [B, ...].
          train: unused; every model takes it.

        Returns:
          Logits, float [B, K].
        """
        del train
        x = x.reshape(x.shape[0], -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.num_classes)(x)


def make_mlp(
    num_classes: int, hidden: Sequence[Annotated[int, at_least(1)]] = (64,)
) -> nn.Module:
    """Return the checked network.

    Args:
      num_classes: K.
      hidden: widths of the hidden layers.

    Raises:
      ValueError: if a width is below 1.
    """
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden must be numbers >= 1, got {tuple(hidden)}")
    return MLP(tuple(hidden), num_classes)
