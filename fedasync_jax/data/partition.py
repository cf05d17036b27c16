"""Who owns which sample: true partitions, every sample with exactly one client.

Shapes: N samples, C clients, K classes. The result is flat, two arrays and no list
per client, so that a million clients cost a few megabytes.
"""

import math
from numbers import Integral
from typing import NamedTuple

import numpy as np

from fedasync_jax.data.apportion import even_sizes, raise_to_minimum, round_shares

# Here the shares already agree to six digits; at 1e308 NumPy's draws overflow to zero.
_MAX_CONCENTRATION = 1e12


class Partition(NamedTuple):
    """Rows of a data set, dealt to C clients.

    Attributes:
      indices: int32 [N], the rows of client 0, then those of client 1, and so on.
      counts: int32 [C], >= 1, how many of them each client owns.
    """

    indices: np.ndarray
    counts: np.ndarray


def iid(num_samples: int, num_clients: int, *, rng: np.random.Generator) -> Partition:
    """Cut one random permutation into equal slices (sizes differ by at most one).

    Args:
      num_samples: N.
      num_clients: C, in 1..N.
      rng: source of the permutation.

    Raises:
      ValueError: if there are more clients than samples, or no client.

    Reference: the experiments of Xie, Koyejo, Gupta, "Asynchronous Federated
    Optimization", OPT 2020.
    """
    _check_num_clients(num_clients, num_samples)
    return _deal(rng.permutation(num_samples), even_sizes(num_samples, num_clients))


def shards(
    labels: np.ndarray,
    num_clients: int,
    *,
    shards_per_client: int = 2,
    rng: np.random.Generator,
) -> Partition:
    """Sort by label, cut into C S equal shards, deal S random shards to each client.

    A client sees about S classes. The order of the samples inside a class is that of
    the data set.

    Args:
      labels: int [N].
      num_clients: C, in 1..N.
      shards_per_client: S, in 1..N // C.
      rng: source of the deal.

    Raises:
      ValueError: if an argument is out of range.

    Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", AISTATS 2017, section 3.
    """
    labels = _check_labels(labels)
    _check_num_clients(num_clients, len(labels))
    _check_per_client("shards_per_client", shards_per_client, num_clients, len(labels))
    num_shards = num_clients * shards_per_client
    owner_of_shard = rng.permutation(num_shards) % num_clients
    owners = np.repeat(owner_of_shard, even_sizes(len(labels), num_shards))
    return _collect(np.argsort(labels, kind="stable"), owners, num_clients)


def dirichlet(
    labels: np.ndarray,
    num_clients: int,
    *,
    concentration: float,
    min_samples: int = 1,
    rng: np.random.Generator,
) -> Partition:
    """Deal every class by its own random proportions: label skew.

    For each class k the proportions over the clients are p_k ~ Dir(concentration 1_C),
    and client i gets p_ki of the samples of the class, rounded up or down. A small
    concentration gives clients with few classes and unequal sizes, a large one equal
    mixtures. Then clients below ``min_samples`` are filled up with random samples of
    the clients that are the largest at that moment, so that none is empty.

    Args:
      labels: int [N], any values.
      num_clients: C, in 1..N.
      concentration: finite, > 0.
      min_samples: least number of samples per client, in 1..N // C.
      rng: source of the proportions and of who gets which sample.

    Raises:
      ValueError: if an argument is out of range.

    Reference: Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural
    Networks", ICML 2019, section 4; Li et al., "Federated Learning on Non-IID Data
    Silos", ICDE 2022, distribution-based label imbalance.
    """
    labels = _check_labels(labels)
    _check_num_clients(num_clients, len(labels))
    _check_per_client("min_samples", min_samples, num_clients, len(labels))
    if not 0 < concentration < math.inf:
        raise ValueError(f"concentration must be finite and > 0, got {concentration}")
    rows, owners = _deal_classes(labels, num_clients, concentration, rng)
    owners = _fill_up(owners, num_clients, min_samples, rng)
    return _collect(rows, owners, num_clients)


def quantity_skew(
    num_samples: int,
    num_clients: int,
    *,
    sigma: float,
    min_samples: int = 1,
    rng: np.random.Generator,
) -> Partition:
    """Deal a random permutation in slices of log-normal sizes: only sizes differ.

    Sizes are in proportion to exp(sigma z_i), z_i standard normal, and sum to N. Those
    below ``min_samples`` are raised to it at the cost of the largest.

    Args:
      num_samples: N.
      num_clients: C, in 1..N.
      sigma: standard deviation of the logarithm of the sizes, finite, >= 0; at 0 all
        sizes are equal (up to one).
      min_samples: least number of samples per client, in 1..N // C.
      rng: source of the sizes and of the permutation.

    Raises:
      ValueError: if an argument is out of range.
    """
    _check_num_clients(num_clients, num_samples)
    _check_per_client("min_samples", min_samples, num_clients, num_samples)
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be finite and >= 0, got {sigma}")
    normal = rng.standard_normal(num_clients)
    # The largest share is exp(0), so that no sigma overflows.
    sizes = round_shares(np.exp(sigma * (normal - normal.max())), num_samples, rng=rng)
    return _deal(rng.permutation(num_samples), raise_to_minimum(sizes, min_samples))


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
    labels = _check_labels(labels)
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels must be in 0..{num_classes - 1} (num_classes {num_classes}), "
            f"got {labels.min()}..{labels.max()}"
        )
    num_clients = len(partition.counts)
    owners = np.repeat(np.arange(num_clients), partition.counts)
    cells = owners * num_classes + labels[partition.indices].astype(np.int64)
    counts = np.bincount(cells, minlength=num_clients * num_classes)
    return counts.reshape(num_clients, num_classes)


def _deal(rows: np.ndarray, counts: np.ndarray) -> Partition:
    return Partition(rows.astype(np.int32), counts.astype(np.int32))


def _collect(rows: np.ndarray, owners: np.ndarray, num_clients: int) -> Partition:
    """Turn "row ``rows[j]`` belongs to ``owners[j]``" into a partition."""
    counts = np.bincount(owners, minlength=num_clients)
    return _deal(rows[np.argsort(owners, kind="stable")], counts)


def _shuffle_within(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an order of positions: group after group, at random inside each."""
    order = rng.permutation(len(groups))
    return order[np.argsort(groups[order], kind="stable")]


def _deal_classes(
    labels: np.ndarray,
    num_clients: int,
    concentration: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows [N], class after class, and their owners [N]."""
    classes = np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(classes)
    alpha = np.full(num_clients, min(concentration, _MAX_CONCENTRATION))
    counts = [round_shares(rng.dirichlet(alpha), int(size), rng=rng) for size in sizes]
    clients = np.tile(np.arange(num_clients), len(sizes))
    owners = np.repeat(clients, np.concatenate(counts))
    return _shuffle_within(classes, rng), owners


def _fill_up(
    owners: np.ndarray, num_clients: int, minimum: int, rng: np.random.Generator
) -> np.ndarray:
    """Return new owners [N], none with fewer than ``minimum`` samples."""
    counts = np.bincount(owners, minlength=num_clients)
    change = raise_to_minimum(counts, minimum) - counts
    # Position of each entry inside its client, in the order of _shuffle_within.
    rank = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    leaves = rank < np.repeat(np.maximum(-change, 0), counts)
    moved = rng.permutation(_shuffle_within(owners, rng)[leaves])
    filled = owners.copy()
    filled[moved] = np.repeat(np.arange(num_clients), np.maximum(change, 0))
    return filled


def _check_labels(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            "labels must be a one-dimensional array of integers, "
            f"got shape {labels.shape}, dtype {labels.dtype}"
        )
    return labels


def _check_num_clients(num_clients: int, num_samples: int) -> None:
    if not 1 <= num_samples <= np.iinfo(np.int32).max:
        raise ValueError(
            f"num_samples must be in 1..{np.iinfo(np.int32).max}, got {num_samples}"
        )
    if not (isinstance(num_clients, Integral) and 1 <= num_clients <= num_samples):
        raise ValueError(
            f"num_clients must be in 1..{num_samples} (the number of samples), "
            f"got {num_clients}"
        )


def _check_per_client(
    name: str, value: int, num_clients: int, num_samples: int
) -> None:
    largest = num_samples // num_clients
    if not (isinstance(value, Integral) and 1 <= value <= largest):
        raise ValueError(
            f"{name} must be in 1..{largest} ({num_samples} samples for {num_clients} "
            f"clients), got {value}"
        )
