"""Partitions by name.

A new partition is a function, here or anywhere, and an entry. It gets those of
``labels``, ``num_samples``, ``num_clients``, ``features`` and ``rng`` that it names.
"""

from typing import Annotated, Any

import numpy as np

from fedasync_jax.data.partition.base import Partition
from fedasync_jax.data.partition.by_feature import feature_skew
from fedasync_jax.data.partition.by_label import dirichlet, shards
from fedasync_jax.data.partition.by_size import power_law, quantity_skew
from fedasync_jax.data.partition.uniform import iid, with_replacement
from fedasync_jax.parts.bounds import Bounds
from fedasync_jax.parts.convert import converted
from fedasync_jax.parts.registry import Registry


def _deal_by_feature(
    features: np.ndarray | None,
    labels: np.ndarray,
    num_clients: int,
    *,
    skew: Annotated[float, Bounds(0, 1)] = 1.0,
    rng: np.random.Generator,
) -> Partition:
    """Deal by style, see ``feature_skew``.

    Args:
      features: [N, ...]; None for a caller without any.
      labels: int [N].
      num_clients: C.
      skew: how much the styles differ, in [0, 1].
      rng: source of all randomness.
    """
    if features is None:
        raise ValueError(
            "features must be an array of numbers [N, ...] for partition "
            "'feature-skew', got None"
        )
    return feature_skew(features, labels, num_clients, skew=skew, rng=rng)


PARTITIONS: Registry[Partition] = Registry("partition")
PARTITIONS.register("iid", iid)
PARTITIONS.register("shards", shards)
PARTITIONS.register("dirichlet", dirichlet)
PARTITIONS.register("quantity-skew", quantity_skew, sigma="size_sigma")
PARTITIONS.register("power-law", power_law, exponent="size_exponent")
PARTITIONS.register("feature-skew", _deal_by_feature, skew="feature_skew")
PARTITIONS.register("replacement", with_replacement)


@converted
def make_partition(
    name: str,
    labels: np.ndarray,
    num_clients: int,
    *,
    features: np.ndarray | None = None,
    rng: np.random.Generator,
    **arguments: Any,
) -> Partition:
    """Deal samples by the partition called ``name``.

    Args:
      name: one of ``PARTITIONS``: "iid", "shards", "dirichlet", "quantity-skew",
        "power-law", "feature-skew" or "replacement".
      labels: int [N].
      num_clients: C, in 1..N; of "replacement" in 1..2147483647.
      features: [N, ...], of "feature-skew", which needs them.
      rng: source of all randomness.
      **arguments: of the function, such as ``concentration``; those of other partitions
        are not read.

    Raises:
      ValueError: if the name is unknown or an argument that is read is out of range.

    Returns:
      A true partition of the N samples, except for "replacement".
    """
    return PARTITIONS.make(
        name,
        {},
        labels=labels,
        num_samples=len(labels),
        num_clients=num_clients,
        features=features,
        rng=rng,
        **arguments,
    )
