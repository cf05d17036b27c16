"""Baselines under the same harness: FedAvg, FedProx and single-thread SGD.

A synchronous method is a schedule and a mixing rule like any other, so engine, clock
and counts are the same for all methods that are compared:

* FedAvg: the scheduler ``Rounds(k)`` and the rule ``average_rounds()``.
* FedProx: FedAvg with ``add_proximal`` in the local update.
* SGD: one worker with the data of all (``data.pool_clients``): FedAvg with k = 1.

Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017; Li et al., "Federated Optimization in Heterogeneous
Networks", MLSys 2020.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import (
    Array,
    Guarded,
    Mixer,
    MixInfo,
    PyTree,
    Schedule,
)
from fedasync_jax.parts.bounds import one_of

RoundWeights = Annotated[str, one_of(("equal", "samples"))]
"""What a client counts in a round: all the same, or its number of samples."""


class RoundState(NamedTuple):
    """State of ``average_rounds``.

    Attributes:
      start_version: int32 [], the version that the round of the last arrival began
        with.
      weight: float [], sum of the weights of its arrivals so far.
    """

    start_version: Array
    weight: Array


def average_rounds(client_weights: np.ndarray | None = None) -> Mixer:
    r"""Return the rule of FedAvg: a round ends with the mean of its arrivals.

    .. math::

        x_{r+1} = \frac{\sum_i w_i y_i}{\sum_i w_i}

    The mean runs along: the j-th arrival of a round is mixed with alpha = w_j / (w_1 +
    .. + w_j), so the first replaces the model of the round before. A round is all
    arrivals that started from the same version, however many they are. Versions inside
    of a round are means of a part of it; only its last is a model of FedAvg (see
    ``round_ends``).

    Args:
      client_weights: float [C], w of every client, > 0, such as its number of samples;
        default: the plain mean.

    Raises:
      ValueError: if a weight is not positive and finite.
    """
    weights = np.ones(1) if client_weights is None else np.asarray(client_weights)
    if not ((weights > 0) & (weights < np.inf)).all():
        raise ValueError(
            f"client_weights must be finite and > 0, got values in "
            f"[{weights.min()}, {weights.max()}]"
        )

    numbers = weights.astype(jnp.result_type(float))
    return Mixer(_begin, jax.tree_util.Partial(_guarded_average, numbers))


def _begin(model: PyTree) -> RoundState:
    del model
    return RoundState(start_version=jnp.int32(-1), weight=jnp.zeros((), float))


def _average(
    weights: Array,
    local: PyTree,
    state: RoundState,
    current: PyTree,
    *,
    start: PyTree,
    staleness: Array,
    version: Array,
    client: Array,
) -> tuple[PyTree, RoundState, MixInfo]:
    del start
    weight = jnp.asarray(weights)[client if len(weights) > 1 else 0]
    began = jnp.asarray(version - staleness, jnp.int32)
    total = weight + jnp.where(state.start_version == began, state.weight, 0)
    mixed = tree.lerp(current, local, weight / total)
    info = MixInfo(alpha=weight / total, applied=jnp.asarray(True))
    return mixed, RoundState(began, total), info


def _check(schedule: Schedule, weights: Array) -> None:
    largest = int(np.max(schedule.client))
    if 1 < len(weights) <= largest:
        raise ValueError(
            f"client_weights must be one per client, {largest + 1} for this schedule, "
            f"got {len(weights)}"
        )


_guarded_average = Guarded(_average, _check, linear=True)
