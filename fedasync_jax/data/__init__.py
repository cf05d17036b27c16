"""Data sets, their partition over clients, and the record that training reads."""

from fedasync_jax.data.cifar10.load import load_cifar10, prepare_cifar10
from fedasync_jax.data.cifar10.tfds import fetch_cifar10, load_cifar10_tfds
from fedasync_jax.data.clients import make_client_data, pool_clients
from fedasync_jax.data.columns import read_columns
from fedasync_jax.data.dataset import Dataset, Texts
from fedasync_jax.data.digits import load_digits
from fedasync_jax.data.hold_out import hold_out, hold_out_texts
from fedasync_jax.data.leaf import deal_leaf_text, load_leaf
from fedasync_jax.data.npz import load_npz
from fedasync_jax.data.partition import (
    PARTITIONS,
    LabelSummary,
    Partition,
    Spread,
    dirichlet,
    feature_skew,
    iid,
    label_counts,
    make_partition,
    natural,
    power_law,
    quantity_skew,
    shards,
    summarize_label_counts,
    summarize_labels,
    with_replacement,
)
from fedasync_jax.data.registry import DATASETS, TEXTS, load_dataset
from fedasync_jax.data.synthetic import make_synthetic
from fedasync_jax.data.tables import from_table, load_table
from fedasync_jax.data.text.shakespeare import Speakers, load_shakespeare
from fedasync_jax.data.text.wikitext2 import (
    Text,
    batchify,
    deal_batches,
    load_wikitext2,
)
from fedasync_jax.data.tfds.load import load_tfds
from fedasync_jax.data.words import count_words

__all__ = [
    "DATASETS",
    "PARTITIONS",
    "TEXTS",
    "Dataset",
    "LabelSummary",
    "Partition",
    "Speakers",
    "Spread",
    "Text",
    "Texts",
    "batchify",
    "count_words",
    "deal_batches",
    "deal_leaf_text",
    "dirichlet",
    "feature_skew",
    "fetch_cifar10",
    "from_table",
    "hold_out",
    "hold_out_texts",
    "iid",
    "label_counts",
    "load_cifar10",
    "load_cifar10_tfds",
    "load_dataset",
    "load_digits",
    "load_leaf",
    "load_npz",
    "load_shakespeare",
    "load_table",
    "load_tfds",
    "load_wikitext2",
    "make_client_data",
    "make_partition",
    "make_synthetic",
    "natural",
    "pool_clients",
    "power_law",
    "prepare_cifar10",
    "quantity_skew",
    "read_columns",
    "shards",
    "summarize_label_counts",
    "summarize_labels",
    "with_replacement",
]
