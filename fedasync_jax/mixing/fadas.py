"""FADAS: Adam on the mean of M changes, with a step that falls with their delay.

Delta = (1/M) sum_i Delta_i; m <- b1 m + (1 - b1) Delta; v <- b2 v + (1 - b2) Delta^2;
w <- max(w, v); x <- x + eta / max(1, d_max / d_c) m / (sqrt(w) + eps), where d_max is
the largest staleness among the M.

Reference: Wang et al., "FADAS: Towards Federated Adaptive Asynchronous Optimization",
ICML 2024, arXiv 2407.18365, Algorithm 1 (delay-adaptive). The authors' code and their
text differ in the step; this is the text's.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Mixer, PyTree, Schedule
from fedasync_jax.mixing.buffer import (
    Buffer,
    BufferSize,
    check_size,
    empty,
    join,
    put_in,
    split,
)
from fedasync_jax.mixing.by_weight import WeightedArrival, make_weighted_rule, scale_by
from fedasync_jax.parts.bounds import Bounds, above
from fedasync_jax.parts.registry import checked

_Decay = Annotated[float, Bounds(0, 1, open_high=True)]


class FadasState(NamedTuple):
    """State of ``fadas``; the moments are pytrees like the parameters.

    Attributes:
      buffer: changes that were collected.
      largest: float [], the largest staleness among them.
      first: m.
      second: v.
      highest: the largest v so far, w.
    """

    buffer: Buffer
    largest: Array
    first: PyTree
    second: PyTree
    highest: PyTree


@checked
def fadas(
    size: BufferSize = 10,
    step: Annotated[float, above(0)] = 0.01,
    usual: Annotated[float, above(0)] = 1.0,
    b1: _Decay = 0.9,
    b2: _Decay = 0.99,
    eps: Annotated[float, above(0)] = 1e-3,
) -> Mixer:
    r"""Return FADAS.

    .. math::

        \Delta = \frac{1}{M} \sum_i \Delta_i,
        \quad m \leftarrow b_1 m + (1 - b_1) \Delta,
        \quad v \leftarrow b_2 v + (1 - b_2) \Delta^2,

        w \leftarrow \max(w, v),
        \quad x \leftarrow x + \frac{\eta}{\max(1, d_{max} / d_c)}
        \frac{m}{\sqrt{w} + \epsilon}

    Only the trainable parameters see the moments; to the rest of a model, such as
    running statistics, the mean change is added as it is.

    Args:
      size: arrivals that fill the buffer (M).
      step: step of the server (eta), > 0: about what a parameter moves in one step at
        first.
      usual: largest staleness that does not shorten the step (d_c), in versions of the
        rule, > 0.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: number added to the root of the second moment, > 0.

    Raises:
      ValueError: if a setting is out of range, or, of a schedule, M is larger than its
        number of updates.
    """
    numbers = tuple(np.float32(number) for number in (step, usual, b1, b2, eps))
    return make_weighted_rule(
        _mix,
        scale_by(1 / size, None),
        _begin,
        numbers=(np.int32(size), numbers),
        check=_check,
        versions_every=size,
    )


def _begin(model: PyTree) -> FadasState:
    zeros = tree.zeros(split(model)[0])
    return FadasState(empty(model), jnp.zeros((), float), zeros, zeros, zeros)


def _mix(
    numbers: PyTree, state: FadasState, arrival: WeightedArrival
) -> tuple[PyTree, FadasState, Array]:
    size, (step, usual, b1, b2, eps) = numbers
    change = tree.sub(arrival.local, arrival.start)
    full, total, buffer = put_in(state.buffer, arrival.weight, change, size)
    largest = jnp.maximum(state.largest, jnp.asarray(arrival.staleness, float))
    params, rest = split(arrival.current)
    mean, rest_mean = split(total)

    # The step that is made if the buffer is full.
    first = tree.lerp(mean, state.first, b1)
    squares = jax.tree.map(jnp.square, mean)
    second = tree.lerp(squares, state.second, b2)
    highest = jax.tree.map(jnp.maximum, state.highest, second)
    rate = step / jnp.maximum(1.0, largest / usual)
    stepped = jax.tree.map(
        lambda x, m, w: (
            x.astype(m.dtype) + _as(rate, m) * m / (jnp.sqrt(w) + _as(eps, w))
        ).astype(x.dtype),
        params,
        first,
        highest,
    )
    made = join(stepped, tree.add_scaled(rest, 1.0, rest_mean), arrival.current)

    mixed, moments = tree.where(
        full, (made, (first, second, highest)), (arrival.current, state[2:])
    )
    largest = jnp.where(full, 0.0, largest)
    return mixed, FadasState(buffer, largest, *moments), arrival.weight


def _as(number: Array, like: Array) -> Array:
    return jnp.asarray(number, like.dtype)


def _check(schedule: Schedule, numbers: PyTree) -> None:
    check_size(schedule, numbers[0])
