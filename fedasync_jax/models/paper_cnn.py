"""The convolutional network of the paper's CIFAR-10 experiments.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
section 5.1.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, ArrayLike, Model, PyTree, Variables
from fedasync_jax.models.cnn import max_pool
from fedasync_jax.models.convolution import conv_as_matmul
from fedasync_jax.models.linen import from_linen
from fedasync_jax.parts.bounds import FRACTION, at_least


class PaperCNN(nn.Module):
    """Blocks of two convolutions with batch normalization, then two dense layers.

    A block is twice [3x3 convolution, ReLU, batch normalization], then 2x2 maximum and
    dropout; after the blocks flatten, dense, ReLU, dropout, dense. For images of
    24x24x3 the defaults make 2,625,866 parameters and 768 running statistics. A quarter
    of the channels, ``features=(16, 32), hidden=128``, suits a laptop.

    Kernels begin Glorot-uniform, biases at zero. The running statistics follow those of
    the batches by r <- 0.9 r + 0.1 s; they are part of ``Variables.state``, so they
    are sent, trained, returned and mixed with the parameters.

    Attributes:
      num_classes: K, the number of logits.
      features: channels of the blocks, in order.
      hidden: width of the hidden dense layer.
      dropout: share of entries that dropout sets to zero, in [0, 1).
      conv_general_dilated: see ``CNN``. XLA's own is the fastest on a CPU if the local
        steps are unrolled, and by far the slowest if they are not.
    """

    num_classes: int = 10
    features: Sequence[int] = (64, 128)
    hidden: int = 512
    dropout: float = 0.25
    conv_general_dilated: Callable[..., Array] = conv_as_matmul

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Return the logits.

        Args:
          x: images, float [B, H, W, C]; each block halves H and W, rounding down.
          train: whether to drop out and to normalize by the batch's own statistics;
            then the stream ``"dropout"`` is drawn from and ``"batch_stats"`` changes.

        Returns:
          Logits, float [B, K].
        """
        for channels in self.features:
            x = self._convolve(self._convolve(x, channels, train), channels, train)
            x = self._drop(max_pool(x), train)
        x = nn.relu(_dense(self.hidden)(x.reshape(x.shape[0], -1)))
        return _dense(self.num_classes)(self._drop(x, train))

    def _convolve(self, x: Array, channels: int, train: bool) -> Array:
        x = nn.Conv(
            channels,
            (3, 3),
            kernel_init=nn.initializers.glorot_uniform(),
            conv_general_dilated=self.conv_general_dilated,
        )(x)
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)(
            nn.relu(x)
        )

    def _drop(self, x: Array, train: bool) -> Array:
        return nn.Dropout(self.dropout, deterministic=not train)(x)


def make_paper_cnn(
    mean_image: ArrayLike,
    *,
    num_classes: int = 10,
    features: Sequence[int] = (64, 128),
    hidden: int = 512,
    dropout: float = 0.25,
    conv_general_dilated: Callable[..., Array] = conv_as_matmul,
) -> Model:
    """Make the model of a ``PaperCNN`` on (x - mean image) / 128.

    The images are brought to that scale batch by batch, so that a data set may lie on
    the device as it is stored, in bytes.

    Args:
      mean_image: mean of the training images, [H, W, C], on the scale of the inputs.
      num_classes: see ``PaperCNN``, as all that follow.
      features: channels of the blocks.
      hidden: width of the hidden dense layer.
      dropout: share of entries set to zero.
      conv_general_dilated: the convolution.

    Raises:
      ValueError: if ``mean_image`` is not [H, W, C] or vanishes in the blocks' pooling,
        or a number is out of range.

    Returns:
      A model of batches ``{"x": uint8 or float [B, H, W, C], "y": int [B]}``.
    """
    shape = np.shape(mean_image)
    module = make_paper_module(
        shape, num_classes, features, hidden, dropout, conv_general_dilated
    )
    return normalize_inputs(from_linen(module, jnp.zeros((1, *shape))), mean_image)


def make_paper_module(
    sample_shape: Sequence[int],
    num_classes: int,
    channels: Sequence[Annotated[int, at_least(1)]] = (64, 128),
    hidden: Annotated[int, at_least(1)] = 512,
    dropout: Annotated[float, FRACTION] = 0.25,
    conv_general_dilated: Callable[..., Array] = conv_as_matmul,
) -> PaperCNN:
    """Return the checked network for images of a shape; see ``PaperCNN``.

    Args:
      sample_shape: H, W, C.
      num_classes: K.
      channels: channels of the blocks.
      hidden: width of the hidden dense layer.
      dropout: share of entries that dropout sets to zero, in [0, 1).
      conv_general_dilated: the convolution.

    Raises:
      ValueError: if the shape is not [H, W, C] or vanishes in the blocks' pooling, or a
        number is out of range.
    """
    smallest = 2 ** len(channels)
    if len(sample_shape) != 3 or min(sample_shape[:2]) < smallest:
        raise ValueError(
            f"image_shape of paper-cnn must be [H, W, C] with H and W >= {smallest}, "
            f"got {tuple(sample_shape)}"
        )
    if num_classes < 2:
        raise ValueError(f"num_classes must be >= 2, got {num_classes}")
    if min(hidden, *channels) < 1:
        raise ValueError(
            f"features and hidden must be >= 1, got {tuple(channels)} and {hidden}"
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    return PaperCNN(num_classes, tuple(channels), hidden, dropout, conv_general_dilated)


def normalize_inputs(model: Model, mean_image: ArrayLike) -> Model:
    """Return the model on (x - mean image) / 128, brought to that scale by the batch.

    Args:
      model: a model of batches ``{"x": float [B, ...], ...}``.
      mean_image: on the scale of the inputs, [...].
    """
    mean = np.asarray(mean_image, np.float32)

    def normalize(batch: PyTree) -> PyTree:
        x = (batch["x"].astype(mean.dtype) - mean[None]) / 128
        return {**batch, "x": x}

    def loss(variables: Variables, batch: PyTree, key: Array) -> tuple[Array, PyTree]:
        return model.loss(variables, normalize(batch), key)

    def metrics(variables: Variables, batch: PyTree) -> dict[str, Array]:
        return model.metrics(variables, normalize(batch))

    return model._replace(loss=loss, metrics=metrics)


def _dense(width: int) -> nn.Dense:
    return nn.Dense(width, kernel_init=nn.initializers.glorot_uniform())
