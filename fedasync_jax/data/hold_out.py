"""A validation set, held out of the training samples: to choose settings by.

The test set decides nothing; what is chosen, is chosen on samples that are neither
trained on nor tested on.
"""

import math

import numpy as np

from fedasync_jax.data.dataset import Dataset, Texts
from fedasync_jax.data.partition.base import Partition

# Fixed, and apart from the seed of a run: every run is judged by the same samples.
_SEED = 20_231


def hold_out(dataset: Dataset, share: float) -> Dataset:
    """Return a data set some of whose training samples have become validation samples.

    They are drawn uniformly, the same ones every time. A mean image stays that of all
    training images.

    Args:
      dataset: N training samples.
      share: of N, in [0, 1), rounded up; 0 returns the data set as it is.

    Raises:
      ValueError: if no training sample is left.
    """
    if not share:
        return dataset
    num_samples = len(dataset.x_train)
    num_held = math.ceil(share * num_samples)
    if num_held >= num_samples:
        raise ValueError(
            f"valid_share must leave one of {num_samples} training samples, got {share}"
        )
    order = np.random.default_rng(_SEED).permutation(num_samples)
    held, kept = order[:num_held], np.sort(order[num_held:])
    keys = dataset.client_train
    return dataset._replace(
        x_train=dataset.x_train[kept],
        y_train=dataset.y_train[kept],
        x_valid=dataset.x_train[held],
        y_valid=dataset.y_train[held],
        client_train=None if keys is None else np.asarray(keys)[kept],
    )


def hold_out_texts(texts: Texts, share: float) -> Texts:
    """Return texts some of whose training samples have become validation samples.

    Of every client the same share, rounded down, so that each keeps its text.

    Args:
      texts: N training samples, without a validation text.
      share: in [0, 1); 0 returns the texts as they are.

    Raises:
      ValueError: if there is a validation text, or no client has a sample to spare.
    """
    if not share:
        return texts
    if texts.valid is not None:
        raise ValueError(
            "valid_share must be 0 for a text with a validation part of its own, "
            f"got {share}"
        )
    rng, counts = np.random.default_rng(_SEED), texts.partition.counts
    num_held = (share * counts).astype(np.int64)
    if not num_held.any():
        raise ValueError(
            f"valid_share must hold out a sample of some client, got {share} where the "
            f"largest has {counts.max()} samples"
        )
    owned = np.split(texts.partition.indices, np.cumsum(counts)[:-1])
    shuffled = [rng.permutation(rows) for rows in owned]
    parts = [(r[:n], np.sort(r[n:])) for r, n in zip(shuffled, num_held, strict=True)]
    held, kept = (np.concatenate(part) for part in zip(*parts, strict=True))
    return texts._replace(
        train={name: array[kept] for name, array in texts.train.items()},
        valid={name: array[held] for name, array in texts.train.items()},
        partition=Partition(
            np.arange(len(kept), dtype=np.int32), (counts - num_held).astype(np.int32)
        ),
    )
