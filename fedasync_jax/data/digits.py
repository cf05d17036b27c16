"""The handwritten digits that come with scikit-learn."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from fedasync_jax.data.dataset import Dataset

# Fixed, and apart from the seed of a run: every run is tested on the same samples.
SPLIT_SEED = 1797


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
