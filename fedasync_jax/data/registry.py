"""Names of settings become data: the registries of data sets and of texts.

A new data set is a factory, here or anywhere, and an entry. It may ask for ``path``
(``--data-path``), a text also for ``num_clients``.
"""

import os

from fedasync_jax.data.cifar10.load import load_cifar10, prepare_cifar10
from fedasync_jax.data.cifar10.tfds import fetch_cifar10
from fedasync_jax.data.dataset import Dataset, Texts
from fedasync_jax.data.digits import load_digits
from fedasync_jax.data.leaf import deal_leaf_text, load_leaf
from fedasync_jax.data.npz import load_npz
from fedasync_jax.data.tables import load_table
from fedasync_jax.data.text.shakespeare import deal_shakespeare
from fedasync_jax.data.text.wikitext2 import deal_wikitext2
from fedasync_jax.data.tfds.load import PREFIX, load_tfds
from fedasync_jax.parts.registry import Registry

Path = str | os.PathLike[str]


def _load_digits(path: Path | None) -> Dataset:
    if path is not None:
        raise ValueError(f"path must be None for data set 'digits', got {path!r}")
    return load_digits()


def _load_npz(path: Path | None) -> Dataset:
    if path is None:
        raise ValueError("path must name an .npz file for data set 'npz', got None")
    return load_npz(path)


def _load_cifar10(path: Path | None) -> Dataset:
    """Return CIFAR-10 as the paper prepares it; the images stay uint8."""
    stored = fetch_cifar10() if path is None else load_cifar10(path)
    dataset, mean_image = prepare_cifar10(stored)
    return dataset._replace(mean_image=mean_image)


DATASETS: Registry[Dataset] = Registry("data set")
DATASETS.register("digits", _load_digits)
DATASETS.register("npz", _load_npz)
DATASETS.register("table", load_table, label="table_label", client="table_client")
DATASETS.register("leaf", load_leaf)
DATASETS.register("cifar10", _load_cifar10)
DATASETS.register_family(PREFIX, load_tfds)

TEXTS: Registry[Texts] = Registry("text")
TEXTS.register("wikitext2", deal_wikitext2)
TEXTS.register("shakespeare", deal_shakespeare)
TEXTS.register("leaf-text", deal_leaf_text)


def load_dataset(name: str, path: Path | None = None) -> Dataset:
    """Load the data set called ``name``.

    Args:
      name: one of ``DATASETS``: "digits", "npz" for a file of one's own, "table" (see
        ``load_table``), "leaf" (see ``load_leaf``), "cifar10" (see ``load_cifar10`` and
        ``prepare_cifar10``), or "tfds:NAME" (see ``load_tfds``).
      path: the file or folder of the data; None for "digits", and for "cifar10" and
        "tfds:NAME" where tensorflow-datasets has its own.

    Raises:
      ValueError: if the name is unknown, or ``path`` does not belong to it.
    """
    return DATASETS.make(name, {}, path=path)
