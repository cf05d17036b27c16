"""Natural partitions: the data say whose sample each is, by writer, device or place."""

from numbers import Integral

import numpy as np

from fedasync_jax.data.partition.base import Partition, check_num_samples, deal


def natural(keys: np.ndarray, *, num_clients: int | None = None) -> Partition:
    """Make every different key a client, in sorted order of the keys.

    Client i is key number i of ``np.unique(keys)``; its rows ascend. With
    ``num_clients`` only the keys of most samples become clients (of equal ones those
    that come first), still in sorted order; the samples of all others are left out.

    >>> part = natural(np.array(["eve", "al", "bo", "eve", "al"]))
    >>> part.indices.tolist(), part.counts.tolist()
    ([1, 4, 2, 0, 3], [2, 1, 2])
    >>> natural(np.array([7, 3, 9, 9, 7]), num_clients=2).indices.tolist()
    [0, 4, 2, 3]

    Args:
      keys: int or string [N], whose sample each is; a column of pandas will do.
      num_clients: C, in 1 .. number of different keys; default: all.

    Raises:
      ValueError: if ``keys`` are none or of a wrong kind, or ``num_clients`` is out of
        range.

    Returns:
      C clients; a true partition of the N samples if no key is left out.
    """
    keys = check_keys("keys", keys)
    check_num_samples(len(keys))
    _, owners, counts = np.unique(keys, return_inverse=True, return_counts=True)
    num_clients = len(counts) if num_clients is None else num_clients
    if not (isinstance(num_clients, Integral) and 1 <= num_clients <= len(counts)):
        raise ValueError(
            f"num_clients must be in 1..{len(counts)} (the number of different keys), "
            f"got {num_clients}"
        )
    is_client = np.zeros(len(counts), bool)
    is_client[np.argsort(-counts, kind="stable")[:num_clients]] = True
    rows = np.argsort(owners, kind="stable")
    return deal(rows[is_client[owners[rows]]], counts[is_client])


def check_keys(name: str, keys: np.ndarray) -> np.ndarray:
    """Return keys as an array; refuse anything but ints or strings [N]."""
    keys = np.asarray(keys)
    if keys.dtype == object and keys.ndim == 1:  # as pandas has texts
        keys = _settle(keys)
    if keys.ndim != 1 or keys.dtype.kind not in "iuUS":
        raise ValueError(
            f"{name} must be a one-dimensional array of integers or strings, "
            f"got shape {keys.shape}, dtype {keys.dtype}"
        )
    return keys


def _settle(keys: np.ndarray) -> np.ndarray:
    """Return objects as strings or integers, if they are all of one kind."""
    kinds = {type(key) for key in keys.tolist()}
    dtype = {str: np.str_, int: np.int64}.get(kinds.pop()) if len(kinds) == 1 else None
    return keys if dtype is None else keys.astype(dtype)
