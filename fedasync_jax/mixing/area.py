"""AREA: the server keeps a mean of all clients' newest models, as it were.

u <- u + y_i - y_i', where y_i' is what client i sent last, x_0 at first; every K
arrivals x <- x + u / N and u <- 0, with N clients. So x is always x_0 and the mean of
what the N clients last said, whatever their speeds: a fast client does not count more.

Reference: Iakovidou, Kim, "Asynchronous Federated Stochastic Optimization for
Heterogeneous Objectives Under Arbitrary Delays" (AREA),
arXiv 2405.10123. The form is sure; the paper's clients keep y_i', here the server does.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Guarded, Mixer, MixInfo, PyTree, Schedule
from fedasync_jax.mixing.buffer import Buffer, BufferSize, check_size, empty, put_in
from fedasync_jax.mixing.per_client import check_clients, keep_per_client, put_row, row
from fedasync_jax.parts.registry import checked


class AreaState(NamedTuple):
    """State of ``area``; N clients.

    Attributes:
      buffer: u.
      last: y_i', leaves [N, ...].
    """

    buffer: Buffer
    last: PyTree


@checked
def area(num_clients: int, size: BufferSize = 1) -> Mixer:
    r"""Return AREA, which keeps a model per client.

    .. math::

        u \leftarrow u + y_i - y_i',
        \quad x \leftarrow x + \frac{u}{N} \text{ every } K \text{ arrivals}

    Every arrival copies that state once, so it suits small models.

    Args:
      num_clients: number of clients (N).
      size: arrivals between two versions (K).

    Raises:
      ValueError: if a setting is out of range; of a schedule, K is larger than its
        number of updates; of a model, N models take too much memory.
    """

    def init(model: PyTree) -> AreaState:
        last = keep_per_client("area", model, num_clients)
        return AreaState(empty(model), last)

    numbers = np.int32(size), np.float32(num_clients)
    update = jax.tree_util.Partial(_guarded_update, *numbers)
    return Mixer(init, update, versions_every=size)


def _update(
    size: Array,
    num_clients: Array,
    local: PyTree,
    state: AreaState,
    current: PyTree,
    *,
    start: PyTree,
    staleness: Array,
    version: Array,
    client: Array,
) -> tuple[PyTree, AreaState, MixInfo]:
    del start, staleness, version
    weight = 1 / jnp.asarray(num_clients)
    news = tree.sub(local, row(state.last, client))
    full, total, buffer = put_in(state.buffer, weight, news, size)
    mixed = tree.where(full, tree.add_scaled(current, 1.0, total), current)
    last = put_row(state.last, client, local)
    info = MixInfo(alpha=weight, applied=jnp.asarray(True))
    return mixed, AreaState(buffer, last), info


def _check(schedule: Schedule, size: Array, num_clients: Array) -> None:
    check_size(schedule, size)
    check_clients(schedule, int(num_clients))


_guarded_update = Guarded(_update, _check)
