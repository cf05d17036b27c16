"""CA2FL: a buffer, calibrated by what every client last did.

v = h + (1/K) sum_i (Delta_i - h_i), x <- x + eta v; h_i <- Delta_i, h the mean of all
h_j. The clients that are not in the buffer are there by their last changes.

Reference: Wang et al., "Tackling the Data Heterogeneity in Asynchronous Federated
Learning with Cached Update Calibration", ICLR 2024, Algorithm 1. The form is sure.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Guarded, Mixer, MixInfo, PyTree, Schedule
from fedasync_jax.mixing.buffer import Buffer, BufferSize, check_size, empty, put_in
from fedasync_jax.mixing.per_client import check_clients, keep_per_client, put_row, row
from fedasync_jax.parts.bounds import above
from fedasync_jax.parts.registry import checked


class CachedState(NamedTuple):
    """State of ``ca2fl``; C clients.

    Attributes:
      buffer: sum of Delta_i - h_i.
      last: h_i, leaves [C, ...].
      mean: h, the mean of h_i when the buffer was last empty, used until it is full.
      newest_mean: the mean of h_i as they are.
    """

    buffer: Buffer
    last: PyTree
    mean: PyTree
    newest_mean: PyTree


@checked
def ca2fl(
    num_clients: int, size: BufferSize = 10, step: Annotated[float, above(0)] = 1.0
) -> Mixer:
    r"""Return CA2FL, which keeps a model per client.

    .. math::

        v = h + \frac{1}{K} \sum_i (\Delta_i - h_i),
        \quad x \leftarrow x + \eta v,
        \quad h_i \leftarrow \Delta_i

    Every arrival copies that state once, so it suits small models.

    Args:
      num_clients: number of clients (C).
      size: arrivals that fill the buffer (K).
      step: step of the server (eta), > 0.

    Raises:
      ValueError: if a setting is out of range; of a schedule, K is larger than its
        number of updates; of a model, C models take too much memory.
    """

    def init(model: PyTree) -> CachedState:
        zeros = tree.zeros(model)
        last = keep_per_client("ca2fl", zeros, num_clients)
        return CachedState(empty(model), last, zeros, zeros)

    numbers = np.int32(size), np.float32(step), np.float32(num_clients)
    update = jax.tree_util.Partial(_guarded_update, *numbers)
    return Mixer(init, update, versions_every=size)


def _update(
    size: Array,
    step: Array,
    num_clients: Array,
    local: PyTree,
    state: CachedState,
    current: PyTree,
    *,
    start: PyTree,
    staleness: Array,
    version: Array,
    client: Array,
) -> tuple[PyTree, CachedState, MixInfo]:
    del staleness, version
    change = tree.sub(local, start)
    news = tree.sub(change, row(state.last, client))
    weight = 1 / jnp.asarray(size, float)
    full, total, buffer = put_in(state.buffer, weight, news, size)

    calibrated = tree.add_scaled(state.mean, 1.0, total)
    mixed = tree.where(full, tree.add_scaled(current, step, calibrated), current)

    newest_mean = tree.add_scaled(state.newest_mean, 1 / num_clients, news)
    mean = tree.where(full, newest_mean, state.mean)
    last = put_row(state.last, client, change)
    info = MixInfo(alpha=step * weight, applied=jnp.asarray(True))
    return mixed, CachedState(buffer, last, mean, newest_mean), info


def _check(schedule: Schedule, size: Array, step: Array, num_clients: Array) -> None:
    del step
    check_size(schedule, size)
    check_clients(schedule, int(num_clients))


_guarded_update = Guarded(_update, _check)
