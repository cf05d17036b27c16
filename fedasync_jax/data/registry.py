"""Names of settings become data: the tables of data sets and of partitions."""

import os
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from fedasync_jax.data.cifar10.fetch_tfds import fetch_cifar10
from fedasync_jax.data.cifar10.load import load_cifar10, prepare_cifar10
from fedasync_jax.data.digits import Dataset, load_digits
from fedasync_jax.data.npz import load_npz
from fedasync_jax.data.partition import (
    Partition,
    dirichlet,
    feature_skew,
    iid,
    power_law,
    quantity_skew,
    shards,
    with_replacement,
)

Path = str | os.PathLike[str]


class LoadFn(Protocol):
    """A data set as the registry knows it."""

    def __call__(self, path: Path | None, /) -> Dataset:
        """Return the data set; ``path`` is None where none is needed."""
        ...


class Options(NamedTuple):
    """Settings of all partitions; each reads its own.

    Attributes:
      concentration: see ``dirichlet``.
      shards_per_client: see ``shards``.
      sigma: see ``quantity_skew``.
      exponent: see ``power_law``.
      skew: see ``feature_skew``.
      features: see ``feature_skew``; None for a caller without any.
      samples_per_client: see ``with_replacement``.
    """

    concentration: float
    shards_per_client: int
    sigma: float
    exponent: float
    skew: float
    features: np.ndarray | None
    samples_per_client: int


class PartitionFn(Protocol):
    """A partition as the registry knows it."""

    def __call__(
        self,
        labels: np.ndarray,
        num_clients: int,
        options: Options,
        rng: np.random.Generator,
        /,
    ) -> Partition:
        """Deal the N samples whose labels, int [N], are given."""
        ...


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


def _deal_by_feature(
    labels: np.ndarray, num_clients: int, options: Options, rng: np.random.Generator
) -> Partition:
    if options.features is None:
        raise ValueError(
            "features must be an array of numbers [N, ...] for partition "
            "'feature-skew', got None"
        )
    return feature_skew(
        options.features, labels, num_clients, skew=options.skew, rng=rng
    )


DATASETS: Mapping[str, LoadFn] = {
    "digits": _load_digits,
    "npz": _load_npz,
    "cifar10": _load_cifar10,
}

PARTITIONS: Mapping[str, PartitionFn] = {
    "iid": lambda labels, num_clients, options, rng: iid(
        len(labels), num_clients, rng=rng
    ),
    "shards": lambda labels, num_clients, options, rng: shards(
        labels, num_clients, shards_per_client=options.shards_per_client, rng=rng
    ),
    "dirichlet": lambda labels, num_clients, options, rng: dirichlet(
        labels, num_clients, concentration=options.concentration, rng=rng
    ),
    "quantity-skew": lambda labels, num_clients, options, rng: quantity_skew(
        len(labels), num_clients, sigma=options.sigma, rng=rng
    ),
    "power-law": lambda labels, num_clients, options, rng: power_law(
        len(labels), num_clients, exponent=options.exponent, rng=rng
    ),
    "feature-skew": _deal_by_feature,
    "replacement": lambda labels, num_clients, options, rng: with_replacement(
        len(labels), num_clients, samples_per_client=options.samples_per_client, rng=rng
    ),
}


def load_dataset(name: str, path: Path | None = None) -> Dataset:
    """Load the data set called ``name``.

    Args:
      name: a key of ``DATASETS``: "digits", "npz" for a file of one's own, or
        "cifar10" (see ``load_cifar10`` and ``prepare_cifar10``).
      path: the file of "npz"; the folder of "cifar10", or None for what
        tensorflow-datasets has (see ``fetch_cifar10``); None otherwise.

    Raises:
      ValueError: if the name is unknown, or ``path`` does not belong to it.
    """
    if name not in DATASETS:
        raise ValueError(f"data set must be one of {', '.join(DATASETS)}, got {name!r}")
    return DATASETS[name](path)


def make_partition(
    name: str,
    labels: np.ndarray,
    num_clients: int,
    *,
    concentration: float = 0.5,
    shards_per_client: int = 2,
    sigma: float = 1.0,
    exponent: float = 1.0,
    skew: float = 1.0,
    features: np.ndarray | None = None,
    samples_per_client: int = 20,
    rng: np.random.Generator,
) -> Partition:
    """Deal samples by the partition called ``name``, which reads its own settings.

    Args:
      name: a key of ``PARTITIONS``: "iid", "shards", "dirichlet", "quantity-skew",
        "power-law", "feature-skew" or "replacement".
      labels: int [N].
      num_clients: C, in 1..N; of "replacement" in 1..2147483647.
      concentration: of "dirichlet".
      shards_per_client: of "shards".
      sigma: of "quantity-skew".
      exponent: of "power-law".
      skew: of "feature-skew".
      features: [N, ...], of "feature-skew", which needs them.
      samples_per_client: of "replacement".
      rng: source of all randomness.

    Raises:
      ValueError: if the name is unknown or a setting that it reads is out of range.

    Returns:
      A true partition of the N samples, except for "replacement".
    """
    if name not in PARTITIONS:
        raise ValueError(
            f"partition must be one of {', '.join(PARTITIONS)}, got {name!r}"
        )
    options = Options(
        concentration=concentration,
        shards_per_client=shards_per_client,
        sigma=sigma,
        exponent=exponent,
        skew=skew,
        features=features,
        samples_per_client=samples_per_client,
    )
    return PARTITIONS[name](labels, num_clients, options, rng)
