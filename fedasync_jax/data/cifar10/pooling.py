"""Smaller images: the mean over square blocks of pixels."""

import numpy as np

from fedasync_jax.data.dataset import Dataset


def pool_images(dataset: Dataset, size: int) -> Dataset:
    """Return a data set of images whose pixels are means over ``size`` by ``size``.

    Args:
      dataset: images uint8 [*, H, W, C].
      size: of a block, >= 1; H and W are multiples of it.

    Raises:
      ValueError: if they are not.
    """
    height, width = dataset.x_train.shape[1:3]
    if size < 1 or height % size or width % size:
        raise ValueError(
            f"cifar10_pool must divide {height} and {width} pixels, got {size}"
        )
    if size == 1:
        return dataset
    return dataset._replace(
        x_train=_pool(dataset.x_train, size), x_test=_pool(dataset.x_test, size)
    )


def _pool(images: np.ndarray, size: int) -> np.ndarray:
    number, height, width, channels = images.shape
    blocks = images.reshape(number, height // size, size, width // size, size, channels)
    sums = blocks.sum(axis=(2, 4), dtype=np.uint32)
    return np.rint(sums / size**2).astype(np.uint8)
