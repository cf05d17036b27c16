"""FedBuff: K changes are collected, then added at once.

x <- x + (eta / K) sum_i s(d_i) Delta_i, Delta_i = y_i - x_tau_i, s = (1 + d)^(-1/2).

Reference: Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation",
AISTATS 2022, arXiv 2106.06639, Algorithm 1. The form is sure.
"""

from typing import Annotated

import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Mixer, PyTree, StalenessFn
from fedasync_jax.mixing.buffer import Buffer, BufferSize, check_size, empty, put_in
from fedasync_jax.mixing.by_weight import WeightedArrival, make_weighted_rule, scale_by
from fedasync_jax.parts.bounds import above
from fedasync_jax.parts.registry import checked


@checked
def fedbuff(
    size: BufferSize = 10,
    step: Annotated[float, above(0)] = 1.0,
    staleness_fn: StalenessFn | None = None,
) -> Mixer:
    r"""Return FedBuff.

    .. math::

        x \leftarrow x + \frac{\eta}{K} \sum_i s(d_i) \Delta_i,
        \quad \Delta_i = y_i - x_{\tau_i}

    The server makes a version of its own every K arrivals, and d counts those. The
    buffer is full after K arrivals that were mixed; one that was rejected leaves it as
    it is, while d goes on as if it had counted.

    Args:
      size: arrivals that fill the buffer (K), >= 1; the paper's experiments use 10.
      step: step of the server (eta), > 0.
      staleness_fn: s(d); default: the paper's (1 + d)^(-1/2).

    Raises:
      ValueError: if a setting is out of range, or, of a schedule, K is larger than its
        number of updates.
    """
    return make_weighted_rule(
        _collect,
        scale_by(step / size, staleness_fn, 0.5),
        empty,
        numbers=np.int32(size),
        check=check_size,
        versions_every=size,
        linear=True,
    )


def _collect(
    size: Array, state: Buffer, arrival: WeightedArrival
) -> tuple[PyTree, Buffer, Array]:
    change = tree.sub(arrival.local, arrival.start)
    full, total, after = put_in(state, arrival.weight, change, size)
    mixed = tree.where(
        full, tree.add_scaled(arrival.current, 1.0, total), arrival.current
    )
    return mixed, after, arrival.weight
