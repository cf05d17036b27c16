"""The handwritten digits that come with the package.

They are the test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and
C. Kaynak, UCI Machine Learning Repository, 1998, doi 10.24432/C50P49, licensed under
Creative Commons Attribution 4.0 International. ``digits.npz`` beside this file has its
1,797 rows in their order, as images.
"""

from pathlib import Path

import numpy as np

from fedasync_jax.data.dataset import Dataset

# Fixed, and apart from the seed of a run: every run is tested on the same samples.
SPLIT_SEED = 1797


def load_digits(*, test_fraction: float = 0.2, seed: int = SPLIT_SEED) -> Dataset:
    """Load the 1,797 handwritten digits that come with the package.

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
    images, labels = _read_digits()
    x, y = (images / 16).astype(np.float32), labels.astype(np.int32)
    if not 0 < test_fraction <= 1 - 1 / len(y):
        raise ValueError(
            f"test_fraction must be > 0 and leave one of the {len(y)} samples for "
            f"training, got {test_fraction}"
        )
    order = np.random.default_rng(seed).permutation(len(y))
    test, train = np.split(order, [int(np.ceil(test_fraction * len(y)))])
    return Dataset(x[train], y[train], x[test], y[test], num_classes=10)


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the images, uint8 [1797, 8, 8, 1] in 0..16, and their labels, uint8."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return file["x"], file["y"]
