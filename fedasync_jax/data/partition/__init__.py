"""Who owns which sample, one file per way in which clients differ."""

from fedasync_jax.data.partition.base import Partition
from fedasync_jax.data.partition.by_feature import feature_skew
from fedasync_jax.data.partition.by_key import natural
from fedasync_jax.data.partition.by_label import dirichlet, shards
from fedasync_jax.data.partition.by_size import power_law, quantity_skew
from fedasync_jax.data.partition.registry import PARTITIONS, make_partition
from fedasync_jax.data.partition.summary import (
    LabelSummary,
    Spread,
    label_counts,
    summarize_label_counts,
    summarize_labels,
)
from fedasync_jax.data.partition.uniform import iid, with_replacement

__all__ = [
    "PARTITIONS",
    "LabelSummary",
    "Partition",
    "Spread",
    "dirichlet",
    "feature_skew",
    "iid",
    "label_counts",
    "make_partition",
    "natural",
    "power_law",
    "quantity_skew",
    "shards",
    "summarize_label_counts",
    "summarize_labels",
    "with_replacement",
]
