"""A data set in memory: training and test samples with their labels."""

import gzip
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Fixed, and apart from the seed of a run: every run is tested on the same samples.
SPLIT_SEED = 1797


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
      client_train: where the data tell: whose each training sample is, int or string
        [N], keys for ``natural``; None otherwise.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    mean_image: np.ndarray | None = None
    client_train: np.ndarray | None = None


def load_digits(*, test_fraction: float = 0.2, seed: int = SPLIT_SEED) -> Dataset:
    """Load the 1,797 handwritten digits that come with scikit-learn, offline.

    Images are grey, 8 x 8 x 1, divided by 16 into 0..1; ten classes. The split is
    random and, unless ``seed`` is given, always the same one: by default 1,437
    training and 360 test samples.

    Args:
      test_fraction: share of the test samples, in (0, 1); their number is rounded up.
      seed: of the split only.

    Raises:
      ValueError: if ``test_fraction`` leaves no training sample.

    Reference: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI
    Machine Learning Repository, 1998 (its test set).
    """
    rows = _read_digits()
    x = (rows[:, :-1] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    y = rows[:, -1].astype(np.int32)
    if not 0 < test_fraction <= 1 - 1 / len(y):
        raise ValueError(
            f"test_fraction must be > 0 and leave one of the {len(y)} samples for "
            f"training, got {test_fraction}"
        )
    order = np.random.default_rng(seed).permutation(len(y))
    test, train = np.split(order, [int(np.ceil(test_fraction * len(y)))])
    return Dataset(x[train], y[train], x[test], y[test], num_classes=10)


def _read_digits() -> np.ndarray:
    """Return float64 [1797, 65]: 64 grey values and the label, a row per digit.

    Only scikit-learn's file is read: to import it takes ten times as long as that.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the digits need scikit-learn, which is not there")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, delimiter=",")
