"""Baselines under the same harness: FedAvg, FedProx and single-thread SGD.

A synchronous method is a schedule and a mixing rule like any other, so engine, clock
and counts are the same for all methods that are compared:

* FedAvg: the scheduler ``Rounds(k)`` and the rule ``average_rounds(k)``.
* FedProx: FedAvg with ``add_proximal`` in the local update.
* SGD: one worker with the data of all (``data.pool_clients``): FedAvg with k = 1.

Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017; Li et al., "Federated Optimization in Heterogeneous
Networks", MLSys 2020.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Mixer, MixInfo, PyTree
from fedasync_jax.fleet import Fleet


class RoundState(NamedTuple):
    """State of ``average_rounds``.

    Attributes:
      round: int32 [], the round of the last arrival.
      weight: float [], sum of the weights of its arrivals so far.
    """

    round: Array
    weight: Array


def average_rounds(
    clients_per_round: int, client_weights: np.ndarray | None = None
) -> Mixer:
    """Return the rule of FedAvg: a round ends with the mean of its k arrivals.

    The mean runs along: the j-th arrival of a round is mixed with alpha = w_j / (w_1 +
    .. + w_j), so the first replaces the model of the round before. Versions inside of a
    round are means of a part of it; only every k-th version is a model of FedAvg.

    Args:
      clients_per_round: k >= 1.
      client_weights: float [C], w of every client, > 0, such as its number of samples;
        default: the plain mean.

    Raises:
      ValueError: if ``clients_per_round`` < 1 or a weight is not positive and
        finite.
    """
    if clients_per_round < 1:
        raise ValueError(f"clients_per_round must be >= 1, got {clients_per_round}")
    weights = np.ones(1) if client_weights is None else np.asarray(client_weights)
    if not ((weights > 0) & (weights < np.inf)).all():
        raise ValueError(
            f"client_weights must be finite and > 0, got values in "
            f"[{weights.min()}, {weights.max()}]"
        )

    def init_fn(model: PyTree) -> RoundState:
        del model
        return RoundState(round=jnp.int32(-1), weight=jnp.zeros((), float))

    def update_fn(
        local: PyTree,
        state: RoundState,
        current: PyTree,
        *,
        start: PyTree,
        staleness: Array,
        version: Array,
        client: Array,
    ) -> tuple[PyTree, RoundState, MixInfo]:
        del start, staleness
        weight = jnp.asarray(weights, float)[client if len(weights) > 1 else 0]
        this_round = version // clients_per_round
        total = weight + jnp.where(state.round == this_round, state.weight, 0)
        mixed = tree.lerp(current, local, weight / total)
        info = MixInfo(alpha=weight / total, applied=jnp.asarray(True))
        return mixed, RoundState(this_round, total), info

    return Mixer(init_fn, update_fn)


def single_worker(fleet: Fleet) -> Fleet:
    """Return a fleet of one worker, as fast as the median of ``fleet``.

    It is the machine on which single-thread SGD runs, so that its virtual time can be
    compared.
    """
    return Fleet(np.array([np.median(fleet.seconds_per_step)]), fleet.task_law)
