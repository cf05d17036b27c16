"""Data sets, their partition over clients, and the record that training reads."""

from fedasync_jax.data.clients import make_client_data, pool_clients
from fedasync_jax.data.datasets import Dataset, load_digits
from fedasync_jax.data.npz import load_npz
from fedasync_jax.data.partition import (
    Partition,
    dirichlet,
    iid,
    label_counts,
    quantity_skew,
    shards,
)
from fedasync_jax.data.registry import (
    DATASETS,
    PARTITIONS,
    load_dataset,
    make_partition,
)

__all__ = [
    "DATASETS",
    "PARTITIONS",
    "Dataset",
    "Partition",
    "dirichlet",
    "iid",
    "label_counts",
    "load_dataset",
    "load_digits",
    "load_npz",
    "make_client_data",
    "make_partition",
    "pool_clients",
    "quantity_skew",
    "shards",
]
