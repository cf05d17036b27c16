"""The record of who owns which sample, and what all partitions check and share."""

from numbers import Integral
from typing import NamedTuple

import numpy as np

INT32_MAX = int(np.iinfo(np.int32).max)


class Partition(NamedTuple):
    """Rows of a data set, dealt to C clients.

    The result is flat, two arrays and no list per client, so that a million clients
    cost a few megabytes.

    Attributes:
      indices: int32 [M], the rows of client 0, then those of client 1, and so on. In a
        true partition of N samples M = N and every row is there once.
      counts: int32 [C], >= 1, how many of them each client owns.
    """

    indices: np.ndarray
    counts: np.ndarray


def deal(rows: np.ndarray, counts: np.ndarray) -> Partition:
    """Return the partition whose clients own slices of ``rows``."""
    return Partition(rows.astype(np.int32), counts.astype(np.int32))


def collect(rows: np.ndarray, owners: np.ndarray, num_clients: int) -> Partition:
    """Turn "row ``rows[j]`` belongs to ``owners[j]``" into a partition."""
    counts = np.bincount(owners, minlength=num_clients)
    return deal(rows[np.argsort(owners, kind="stable")], counts)


def check_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels as an array; refuse anything but int [N]."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            "labels must be a one-dimensional array of integers, "
            f"got shape {labels.shape}, dtype {labels.dtype}"
        )
    return labels


def check_num_samples(num_samples: int) -> None:
    """Refuse numbers of rows that int32 cannot tell apart, and none at all."""
    if not (isinstance(num_samples, Integral) and 1 <= num_samples <= INT32_MAX):
        raise ValueError(f"num_samples must be in 1..{INT32_MAX}, got {num_samples}")


def check_num_clients(num_clients: int, num_samples: int) -> None:
    """Refuse fewer than one client and more clients than samples."""
    check_num_samples(num_samples)
    if not (isinstance(num_clients, Integral) and 1 <= num_clients <= num_samples):
        raise ValueError(
            f"num_clients must be in 1..{num_samples} (the number of samples), "
            f"got {num_clients}"
        )


def check_per_client(name: str, value: int, num_clients: int, num_samples: int) -> None:
    """Refuse a number per client that there are not enough samples for."""
    largest = num_samples // num_clients
    if not (isinstance(value, Integral) and 1 <= value <= largest):
        raise ValueError(
            f"{name} must be in 1..{largest} ({num_samples} samples for {num_clients} "
            f"clients), got {value}"
        )
