"""Many numbers made few enough to be seen: thinned, averaged, spread apart."""

import numpy as np

_MAX_POINTS = 2000  # more points than this are thinned, so that pictures stay small
_NUM_BINS = 10


def thin(array: np.ndarray) -> np.ndarray:
    """Return every n-th entry, 2,000 to 3,999 if there are more."""
    return array[:: max(1, len(array) // _MAX_POINTS)]


def running_mean(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means over windows of a twentieth of y, at the windows' middles."""
    width = max(1, y.size // 20)
    sums = np.concatenate([np.zeros(1), np.cumsum(y)])
    means = (sums[width:] - sums[:-width]) / width
    middles = x[(width - 1) // 2 :][: means.size]
    return thin(middles), thin(means)


def jitter(values: np.ndarray, seed: int) -> np.ndarray:
    """Move whole numbers of a small range apart, by less than a third."""
    if not values.size or np.ptp(values) > 20:
        return values
    return values + np.random.default_rng(seed).uniform(-0.3, 0.3, values.shape)


def mean_by_size(
    num_samples: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean size and mean count of up to ten bins with equally many clients."""
    edges = np.unique(np.quantile(num_samples, np.arange(1, _NUM_BINS) / _NUM_BINS))
    bins = np.searchsorted(edges, num_samples)
    clients = np.bincount(bins)
    means = [
        np.bincount(bins, values)[clients > 0] / clients[clients > 0]
        for values in (num_samples, counts)
    ]
    return means[0], means[1]
