"""Feature skew: clients have the same labels, in other styles.

Shapes: N samples, C clients, n samples of one class, d features.
"""

import numpy as np

from fedasync_jax.data.partition.base import (
    Partition,
    check_labels,
    check_num_clients,
    collect,
)
from fedasync_jax.parts.convert import converted

# The error falls by the ratio of the variances number 17 and 1 in each iteration, which
# is far below 1 in classes of images.
_NUM_DIRECTIONS = 16
_NUM_ITERATIONS = 20


@converted
def feature_skew(
    features: np.ndarray,
    labels: np.ndarray,
    num_clients: int,
    *,
    skew: float,
    rng: np.random.Generator,
) -> Partition:
    """Deal every class evenly, but sorted by style: P_i(x | y) differs, P_i(y) not.

    A true partition, in which no sample is altered. In each class the features are
    projected on the first principal direction of that class, along which its samples
    differ most. Its n samples are sorted by

      (1 - skew) u_j + skew r_j / n

    with u_j uniform in [0, 1) and r_j = 0..n-1 the rank of the projection, and cut into
    one slice per client; which client gets which slice is drawn for every class. What
    does not divide by C goes round from class to class, so that no client has more than
    one sample more than another, be it of a class or of all.

    Args:
      features: numbers [N, ...], finite; uint8 images as they are.
      labels: int [N], any values.
      num_clients: C, in 1..N.
      skew: how much the styles differ, in [0, 1]; 0: random slices, IID with even
        labels; 1: wholly sorted.
      rng: source of u, of the slices' owners, and of where the search for the
        direction starts (which it forgets up to rounding).

    Raises:
      ValueError: if an argument is out of range or of a wrong kind.

    Reference: the kind of skew is "same label, different features" in Kairouz et al.,
    "Advances and Open Problems in Federated Learning", 2021, section 3.1. With it
    P_i(x) differs, as in the feature distribution skew of Li et al., "Federated
    Learning on Non-IID Data Silos", ICDE 2022, who add noise, make data, or deal by
    known writers. The construction here is this project's own.
    """
    labels = check_labels(labels)
    check_num_clients(num_clients, len(labels))
    features = _check_features(features, len(labels))
    if not 0 <= skew <= 1:
        raise ValueError(f"skew must be in [0, 1], got {skew}")
    place = rng.permutation(num_clients)
    rows, owners = [], []
    for members, begin in _split_classes(labels):
        # As if the classes, one after the other, were dealt like cards.
        is_early = (place - begin) % num_clients < len(members) % num_clients
        sizes = len(members) // num_clients + is_early
        order = rng.permutation(num_clients)
        owners.append(np.repeat(order, sizes[order]))
        rows.append(members[_sort_by_style(features[members], skew, rng)])
    return collect(np.concatenate(rows), np.concatenate(owners), num_clients)


def _split_classes(labels: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Return the rows of every class, and how many the classes before it have."""
    ends = np.cumsum(np.unique(labels, return_counts=True)[1])
    members = np.split(np.argsort(labels, kind="stable"), ends[:-1])
    return list(zip(members, [0, *ends[:-1].tolist()], strict=True))


def _sort_by_style(
    features: np.ndarray, skew: float, rng: np.random.Generator
) -> np.ndarray:
    """Return an order of the n samples of one class, from random to sorted."""
    size = len(features)
    ranks = np.empty(size)
    ranks[np.argsort(project_on_first(features, rng=rng), kind="stable")] = range(size)
    return np.argsort((1 - skew) * rng.random(size) + skew * ranks / size)


def project_on_first(features: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Project samples, minus their mean, on their first principal direction.

    By subspace iteration: exact up to rounding, unless the first 17 variances are
    nearly equal, when no direction stands out. The entry of the direction that is
    largest in magnitude is positive.

    >>> x = np.array([[0, 3], [2, 3], [1, 3], [5, 4]])
    >>> np.argsort(project_on_first(x, rng=np.random.default_rng(0))).tolist()
    [0, 2, 1, 3]

    Args:
      features: numbers [n, ...], finite.
      rng: source of the start.

    Returns:
      float32 [n], or float64 if the features do not fit into float32; in units of the
      largest magnitude of a feature.

    Reference: Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM
    Review 2011, algorithm 4.4.
    """
    x = features.reshape(len(features), -1)
    x = x.astype(np.float32 if np.can_cast(x.dtype, np.float32) else np.float64)
    x /= max(x.max(), -x.min()) or 1  # so that no square overflows
    x -= x.mean(axis=0, dtype=np.float64)
    basis = rng.standard_normal((x.shape[1], _NUM_DIRECTIONS)).astype(x.dtype)
    for _ in range(_NUM_ITERATIONS):
        basis = np.linalg.qr(x.T @ (x @ basis))[0]
    direction = basis @ np.linalg.svd(x @ basis, full_matrices=False)[2][0]
    return x @ (direction * np.sign(direction[np.argmax(np.abs(direction))]))


def _check_features(features: np.ndarray, num_samples: int) -> np.ndarray:
    """Return features as an array of finite numbers [N, ...]."""
    features = np.asarray(features)
    is_numbers = features.dtype.kind in "biuf" and features.size
    if not is_numbers or features.shape[:1] != (num_samples,):
        raise ValueError(
            f"features must be an array of numbers [{num_samples}, ...] without zeros, "
            f"got shape {features.shape}, dtype {features.dtype}"
        )
    finite = np.isfinite(features).reshape(num_samples, -1).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"features must be finite, got NaN or infinity in row {np.argmin(finite)}"
        )
    return features
