"""Clients that do not differ but by chance: one permutation, or draws of their own."""

from numbers import Integral
from typing import Annotated

import numpy as np

from fedasync_jax.data.partition.apportion import even_sizes
from fedasync_jax.data.partition.base import (
    INT32_MAX,
    Partition,
    check_num_clients,
    check_num_samples,
    deal,
)
from fedasync_jax.parts.bounds import at_least
from fedasync_jax.parts.convert import converted


@converted
def iid(num_samples: int, num_clients: int, *, rng: np.random.Generator) -> Partition:
    """Cut one random permutation into equal slices (sizes differ by at most one).

    Args:
      num_samples: N.
      num_clients: C, in 1..N.
      rng: source of the permutation.

    Raises:
      ValueError: if there are more clients than samples, or no client.

    Reference: the experiments of Xie, Koyejo, Gupta, "Asynchronous Federated
    Optimization", OPT 2020.
    """
    check_num_clients(num_clients, num_samples)
    return deal(rng.permutation(num_samples), even_sizes(num_samples, num_clients))


@converted
def with_replacement(
    num_samples: int,
    num_clients: int,
    *,
    samples_per_client: Annotated[int, at_least(1)] = 20,
    rng: np.random.Generator,
) -> Partition:
    """Draw the samples of every client from all: no true partition, any C.

    Client i gets the rows r_i1, .., r_iS, independent and uniform on 0..N-1. So clients
    share samples, a client may own one twice, and a sample belongs to nobody with
    probability (1 - 1/N)^(C S). Only row numbers are drawn: a million clients of 18
    samples take 76 MB, whatever a sample is.

    Args:
      num_samples: N.
      num_clients: C, >= 1; may be far above N.
      samples_per_client: S, samples that each client draws, >= 1; C S must fit into
        int32.
      rng: source of the draws.

    Raises:
      ValueError: if an argument is out of range.

    Returns:
      C S rows, S of every client.
    """
    check_num_samples(num_samples)
    _check_draws("num_clients", num_clients, 1)
    _check_draws("samples_per_client", samples_per_client, num_clients)
    num_draws = num_clients * samples_per_client
    rows = rng.integers(num_samples, size=num_draws, dtype=np.int32)
    return Partition(rows, np.full(num_clients, samples_per_client, np.int32))


def _check_draws(name: str, value: int, others: int) -> None:
    """Refuse less than one and more than int32 can address, ``others`` times."""
    largest = INT32_MAX // others
    if not (isinstance(value, Integral) and 1 <= value <= largest):
        note = f" (for {others} clients)" if others > 1 else ""
        raise ValueError(f"{name} must be in 1..{largest}{note}, got {value}")
