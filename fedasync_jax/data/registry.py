"""Names of settings become data: the registries of data sets and of texts.

A new data set is a factory, here or anywhere, and an entry. It may ask for ``path``
(``--data-path``) and ``num_clients``, and declare settings.
"""

import inspect
import os
from typing import Annotated

from fedasync_jax.data.cifar10.load import load_cifar10, mean_of_images, prepare_cifar10
from fedasync_jax.data.cifar10.pooling import pool_images
from fedasync_jax.data.cifar10.tfds import fetch_cifar10
from fedasync_jax.data.dataset import Dataset, Texts
from fedasync_jax.data.digits import load_digits
from fedasync_jax.data.leaf import deal_leaf_text, load_leaf
from fedasync_jax.data.npz import load_npz
from fedasync_jax.data.synthetic import make_synthetic
from fedasync_jax.data.tables import load_table
from fedasync_jax.data.text.shakespeare import deal_shakespeare
from fedasync_jax.data.text.wikitext2 import deal_wikitext2
from fedasync_jax.data.tfds.load import PREFIX, load_tfds
from fedasync_jax.parts.bounds import Bounds, Free, at_least
from fedasync_jax.parts.registry import Registry

Path = str | os.PathLike[str]


def _load_digits(path: Path | None) -> Dataset:
    if path is not None:
        raise ValueError(f"data_path must be None for dataset digits, got {path!r}")
    return load_digits()


def _load_npz(path: Path | None) -> Dataset:
    if path is None:
        raise ValueError("data_path must name an .npz file for dataset npz, got None")
    return load_npz(path)


def _load_cifar10(
    path: Path | None, pool: Annotated[int, Bounds(1, 24)] = 1
) -> Dataset:
    """Return CIFAR-10 as the paper prepares it; the images stay uint8.

    Args:
      path: see ``load_dataset``.
      pool: side of the squares of pixels that are averaged: 2 makes 12 by 12 of the 24
        by 24, 3 makes 8 by 8.
    """
    try:
        stored = fetch_cifar10() if path is None else load_cifar10(path)
    except ValueError as error:  # which calls it by the argument of that function
        words = str(error).replace("data_dir must hold", "data_path must hold")
        raise ValueError(words) from error
    dataset, _ = prepare_cifar10(stored)
    dataset = pool_images(dataset, pool)
    return dataset._replace(mean_image=mean_of_images(dataset.x_train))


def _make_synthetic(
    path: Path | None,
    num_clients: int = 30,
    alpha: Annotated[float, at_least(0)] = 1.0,
    beta: Annotated[float, at_least(0)] = 1.0,
    iid: Annotated[bool, Free()] = False,
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0,
) -> Dataset:
    """Return Synthetic(alpha, beta), see ``make_synthetic``.

    Args:
      path: must be None.
      num_clients: C.
      alpha: variance of the clients' means of weights; by definition it cancels in the
        labels.
      beta: variance of the clients' means of inputs: how much they differ.
      iid: whether all clients share one labelling and one law of inputs.
      seed: seed of the data only; runs of any seed learn the same data.
    """
    if path is not None:
        raise ValueError(f"data_path must be None for dataset synthetic, got {path!r}")
    return make_synthetic(num_clients, alpha, beta, iid, seed)


DATASETS: Registry[Dataset] = Registry("data set")
DATASETS.register("digits", _load_digits)
DATASETS.register("npz", _load_npz)
DATASETS.register("table", load_table, label="table_label", client="table_client")
DATASETS.register("leaf", load_leaf)
DATASETS.register("cifar10", _load_cifar10, pool="cifar10_pool")
DATASETS.register(
    "synthetic",
    _make_synthetic,
    alpha="synthetic_alpha",
    beta="synthetic_beta",
    iid="synthetic_iid",
    seed="synthetic_seed",
)
DATASETS.register_family(PREFIX, load_tfds)

TEXTS: Registry[Texts] = Registry("text")
TEXTS.register("wikitext2", deal_wikitext2)
TEXTS.register("shakespeare", deal_shakespeare)
TEXTS.register("leaf-text", deal_leaf_text)


def asks_for_clients(name: str) -> bool:
    """Return whether a data set or text is made for a number of clients."""
    registry = TEXTS if name in TEXTS else DATASETS
    return "num_clients" in inspect.signature(registry.find(name)).parameters


def load_dataset(name: str, path: Path | None = None) -> Dataset:
    """Load the data set called ``name``.

    Args:
      name: one of ``DATASETS``: "digits", "npz" for a file of one's own, "table" (see
        ``load_table``), "leaf" (see ``load_leaf``), "cifar10" (see ``load_cifar10`` and
        ``prepare_cifar10``), or "tfds:NAME" (see ``load_tfds``).
      path: the file or folder of the data, ``data_path`` in settings and errors; None
        for "digits", and for "cifar10" and "tfds:NAME" where tensorflow-datasets has
        its own.

    Raises:
      ValueError: if the name is unknown, or ``path`` does not belong to it.
    """
    return DATASETS.make(name, {}, path=path)
