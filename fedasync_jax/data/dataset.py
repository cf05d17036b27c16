"""Data sets in memory: classified samples, and texts."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fedasync_jax.data.partition.base import Partition


class Dataset(NamedTuple):
    """A classification data set: N training and T test samples of K classes.

    Attributes:
      x_train: float32 [N, ...], finite; or uint8 where a loader says so.
      y_train: int32 [N], in 0..K-1.
      x_test: as ``x_train``, [T, ...].
      y_test: int32 [T], in 0..K-1.
      num_classes: K.
      mean_image: where images are uint8: the mean of the training images, float32
        [...], for ``models.normalize_inputs``; None otherwise.
      client_train: the owner of each training sample, if the data tell, int or string
        [N], keys for ``natural``; None otherwise.
      x_valid: as ``x_train``, [V, ...], for decisions, see ``hold_out``; None: there
        are none.
      y_valid: int32 [V].
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    mean_image: np.ndarray | None = None
    client_train: np.ndarray | None = None
    x_valid: np.ndarray | None = None
    y_valid: np.ndarray | None = None


class Texts(NamedTuple):
    """What a language model learns: N training samples of consecutive tokens.

    Attributes:
      train: ``x`` and ``y``, int32 [N, ...], the tokens and those that follow them.
      test: likewise.
      valid: likewise, for decisions during training; None: there is no such text.
      vocab_size: V, number of different tokens.
      partition: the owner of each training sample.
      unit: what a sample is, in a word, for people.
      columns: B, texts side by side in a sample, whose hidden state passes from sample
        to sample; None: every sample stands alone.
    """

    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]
    valid: Mapping[str, np.ndarray] | None
    vocab_size: int
    partition: Partition
    unit: str
    columns: int | None


def to_labels(name: str, array: np.ndarray, num_classes: int) -> np.ndarray:
    """Return int32 [N], in 0..num_classes-1."""
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must hold whole numbers, got dtype {array.dtype}")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must have a shape [N], N >= 1, got {array.shape}")
    if array.dtype.kind == "f":
        array = array.astype(np.float64)  # float16 does not hold every bound
    valid = (array >= 0) & (array < num_classes) & (array == np.floor(array))
    if not valid.all():
        row = int(np.argmin(valid))
        raise ValueError(
            f"{name} must hold whole numbers in 0..{num_classes - 1}, "
            f"got {array[row]} in row {row}"
        )
    return array.astype(np.int32)


def check_lengths(part: str, x: np.ndarray, y: np.ndarray) -> None:
    """Refuse samples and labels of different number."""
    if len(x) != len(y):
        raise ValueError(
            f"x_{part} and y_{part} must have one length, got {len(x)} and {len(y)}"
        )
