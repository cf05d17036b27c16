"""The trimmed mean of a buffer: what lies outermost is left out, entry by entry.

x <- x + eta trim_b(s(d_1) Delta_1, .., s(d_K) Delta_K), Delta_i = y_i - x_tau_i, where
trim_b is the mean of what is left of K numbers without the b smallest and the b
largest, for each entry of the model by itself. Up to b clients of a buffer may send
anything: no entry leaves the range of the others. Honest clients pay for it where their
data differ, as what is rare is cut as well.

Reference: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning:
Towards Optimal Statistical Rates", ICML 2018, arXiv 1803.01498, Definition 2, which is
in rounds; the buffer is FedBuff's (``fedbuff``).
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Mixer, PyTree, Schedule, StalenessFn
from fedasync_jax.mixing.buffer import BufferSize, check_size
from fedasync_jax.mixing.by_weight import WeightedArrival, make_weighted_rule, scale_by
from fedasync_jax.parts.bounds import Bounds, above
from fedasync_jax.parts.registry import checked


class Slots(NamedTuple):
    """State of the rule.

    Attributes:
      changes: weighted changes, a pytree like the model with leading axis K.
      size: int32 [], how many have been collected.
    """

    changes: PyTree
    size: Array


@checked
def trimmed(
    size: BufferSize = 10,
    cut: Annotated[float, Bounds(0, 0.5, open_high=True)] = 0.2,
    step: Annotated[float, above(0)] = 1.0,
    staleness_fn: StalenessFn | None = None,
) -> Mixer:
    """Return the rule that adds the trimmed mean of K changes.

    It keeps K models. With ``cut`` 0 it is ``fedbuff``.

    Args:
      size: K, arrivals in a buffer, >= 1.
      cut: share that is left out at each end, in [0, 0.5): b = floor(cut K).
      step: eta, the server's step, > 0.
      staleness_fn: s(d); default: (1 + d)^(-1/2), as of ``fedbuff``.

    Raises:
      ValueError: if a setting is out of range, or, of a schedule, K is larger than its
        number of updates.
    """

    def begin(model: PyTree) -> Slots:
        zeros = tree.zeros(model)
        return Slots(
            jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), zeros),
            jnp.int32(0),
        )

    return make_weighted_rule(
        _collect,
        scale_by(step, staleness_fn, 0.5),
        begin,
        numbers=(np.int32(size), np.int32(cut * size + 1e-9)),
        check=_check,
        versions_every=size,
    )


def _collect(
    numbers: PyTree, state: Slots, arrival: WeightedArrival
) -> tuple[PyTree, Slots, Array]:
    size, num_cut = numbers
    change = tree.scale(tree.sub(arrival.local, arrival.start), arrival.weight)
    changes = tree.put(state.changes, state.size, change)
    full = state.size + 1 >= size

    def add_mean() -> PyTree:
        mean = jax.tree.map(lambda rows: _trim(rows, num_cut), changes)
        return tree.add_scaled(arrival.current, 1.0, mean)

    mixed = jax.lax.cond(full, add_mean, lambda: arrival.current)
    after = Slots(changes, jnp.where(full, 0, state.size + 1))
    return mixed, after, arrival.weight


def _trim(rows: Array, num_cut: Array) -> Array:
    """Return the mean over the first axis without the ends."""
    num_rows = len(rows)
    place = jnp.arange(num_rows).reshape(-1, *[1] * (rows.ndim - 1))
    is_kept = (place >= num_cut) & (place < num_rows - num_cut)
    kept = jnp.where(is_kept, jnp.sort(rows, axis=0), 0)
    return kept.sum(axis=0) / jnp.asarray(num_rows - 2 * num_cut, rows.dtype)


def _check(schedule: Schedule, numbers: PyTree) -> None:
    check_size(schedule, numbers[0])
