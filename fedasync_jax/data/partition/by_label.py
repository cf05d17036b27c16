"""Label skew: clients differ in the classes that they see.

Shapes: N samples, C clients, K classes.
"""

import math
from typing import Annotated

import numpy as np

from fedasync_jax.data.partition.apportion import (
    even_sizes,
    raise_to_minimum,
    round_shares,
)
from fedasync_jax.data.partition.base import (
    Partition,
    check_labels,
    check_num_clients,
    check_per_client,
    collect,
)
from fedasync_jax.parts.bounds import above, at_least
from fedasync_jax.parts.convert import converted

# Here the shares already agree to six digits; at 1e308 NumPy's draws overflow to zero.
_MAX_CONCENTRATION = 1e12


@converted
def shards(
    labels: np.ndarray,
    num_clients: int,
    *,
    shards_per_client: Annotated[int, at_least(1)] = 2,
    rng: np.random.Generator,
) -> Partition:
    """Sort by label, cut into C S equal shards, deal S random shards to each client.

    A client sees about S classes. The order of the samples inside a class is that of
    the data set.

    Args:
      labels: int [N].
      num_clients: C, in 1..N.
      shards_per_client: S, shards of sorted samples per client, in 1..N // C.
      rng: source of the deal.

    Raises:
      ValueError: if an argument is out of range.

    Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", AISTATS 2017, section 3.
    """
    labels = check_labels(labels)
    check_num_clients(num_clients, len(labels))
    check_per_client("shards_per_client", shards_per_client, num_clients, len(labels))
    num_shards = num_clients * shards_per_client
    owner_of_shard = rng.permutation(num_shards) % num_clients
    owners = np.repeat(owner_of_shard, even_sizes(len(labels), num_shards))
    return collect(np.argsort(labels, kind="stable"), owners, num_clients)


@converted
def dirichlet(
    labels: np.ndarray,
    num_clients: int,
    *,
    concentration: Annotated[float, above(0)] = 0.3,
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
      concentration: concentration of the Dirichlet distribution, finite, > 0; the
        smaller, the fewer labels a client has.
      min_samples: least number of samples per client, in 1..N // C.
      rng: source of the proportions and of who gets which sample.

    Raises:
      ValueError: if an argument is out of range.

    Reference: Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural
    Networks", ICML 2019, section 4; Li et al., "Federated Learning on Non-IID Data
    Silos", ICDE 2022, distribution-based label imbalance.
    """
    labels = check_labels(labels)
    check_num_clients(num_clients, len(labels))
    check_per_client("min_samples", min_samples, num_clients, len(labels))
    if not 0 < concentration < math.inf:
        raise ValueError(f"concentration must be finite and > 0, got {concentration}")
    rows, owners = _deal_classes(labels, num_clients, concentration, rng)
    owners = _fill_up(owners, num_clients, min_samples, rng)
    return collect(rows, owners, num_clients)


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
