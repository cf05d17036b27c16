"""A multi-layer perceptron."""

from collections.abc import Sequence

import flax.linen as nn

from fedasync_jax.base import Array


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
