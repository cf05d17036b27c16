"""What a partition came out as: labels of every client, and a few numbers of them all.

Shapes: M index entries, C clients, N samples, K classes.
"""

from typing import NamedTuple

import numpy as np

from fedasync_jax.data.partition.base import Partition, check_labels


class Spread(NamedTuple):
    """How a number lies over the clients.

    Attributes:
      minimum: of all clients.
      median: the middle one, or half-way between the two.
      maximum: of all clients.
    """

    minimum: int
    median: float
    maximum: int


class LabelSummary(NamedTuple):
    """Sizes and labels of C clients.

    Attributes:
      num_clients: C.
      sizes: samples of a client, twice if it owns one twice.
      num_labels: different labels of a client, in 1..K.
      mean_distance: mean over the clients of the total variation distance
        ``1/2 sum_k |p_ik - p_k|`` between the label shares p_i of a client and those of
        all its M entries together; 0: all alike, towards 1: nothing in common.
    """

    num_clients: int
    sizes: Spread
    num_labels: Spread
    mean_distance: float


def label_counts(
    partition: Partition, labels: np.ndarray, num_classes: int
) -> np.ndarray:
    """Count the samples of every class that every client owns.

    >>> part = Partition(np.array([0, 2, 1]), np.array([2, 1]))
    >>> label_counts(part, np.array([1, 0, 1]), num_classes=2).tolist()
    [[0, 2], [1, 0]]

    Args:
      partition: of N samples over C clients.
      labels: int [N], in 0..K-1.
      num_classes: K.

    Returns:
      int64 [C, K].

    Raises:
      ValueError: if a label is not in 0..K-1.
    """
    labels = check_labels(labels)
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels must be in 0..{num_classes - 1} (num_classes {num_classes}), "
            f"got {labels.min()}..{labels.max()}"
        )
    num_clients = len(partition.counts)
    # In place, since there may be many millions of entries.
    cells = np.repeat(np.arange(num_clients) * num_classes, partition.counts)
    cells += labels.astype(np.int64)[partition.indices]
    counts = np.bincount(cells, minlength=num_clients * num_classes)
    return counts.reshape(num_clients, num_classes)


def summarize_labels(
    partition: Partition, labels: np.ndarray, num_classes: int
) -> LabelSummary:
    """Count labels and sum them up: ``summarize_label_counts`` of ``label_counts``.

    >>> part = Partition(np.array([0, 1, 2, 3]), np.array([3, 1]))
    >>> summary = summarize_labels(part, np.array([0, 0, 1, 1]), num_classes=2)
    >>> summary.sizes.median, summary.num_labels.maximum
    (2.0, 2)

    Args:
      partition: of N samples over C clients, none of them empty.
      labels: int [N], in 0..K-1.
      num_classes: K.

    Raises:
      ValueError: if a label is not in 0..K-1.
    """
    return summarize_label_counts(label_counts(partition, labels, num_classes))


def summarize_label_counts(counts: np.ndarray) -> LabelSummary:
    """Tell in a few numbers how sizes and labels differ between clients.

    >>> summary = summarize_label_counts(np.array([[2, 1], [0, 1]]))
    >>> round(summary.mean_distance, 4)  # (|2/3 - 1/2| + |0 - 1/2|) / 2
    0.3333

    Args:
      counts: int [C, K], samples of every class that every client owns.

    Raises:
      ValueError: if there is no client, or one without a sample.
    """
    sizes = counts.sum(axis=1)
    if not (len(sizes) and sizes.min() >= 1):
        raise ValueError(
            "counts must have one client or more and one sample or more of each, "
            f"got shape {counts.shape}, smallest sum {min(sizes, default=0)}"
        )
    shares = counts / sizes[:, None]
    shares -= counts.sum(axis=0) / sizes.sum()
    return LabelSummary(
        num_clients=len(counts),
        sizes=_spread(sizes),
        num_labels=_spread(np.count_nonzero(counts, axis=1)),
        mean_distance=float(np.abs(shares, out=shares).sum(axis=1).mean() / 2),
    )


def _spread(values: np.ndarray) -> Spread:
    return Spread(int(values.min()), float(np.median(values)), int(values.max()))
