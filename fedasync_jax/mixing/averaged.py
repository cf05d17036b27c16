"""The average of the iterates: judged and exported, never trained from.

xbar <- xbar + p / (t + p) (x - xbar).

The newest model of an asynchronous run varies with every arrival; its average does not,
and it costs no training. With p = 1 it is the plain mean of x_1, x_2, ..; a larger p
forgets the beginning: about the last 1/p of the versions count.

Reference: Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging",
1992; the weights are those of Shamir, Zhang, "Stochastic Gradient Descent for
Non-smooth Optimization", ICML 2013, with eta = p - 1. Sure.
"""

import functools
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import (
    Array,
    Guarded,
    Mixer,
    MixFn,
    MixInfo,
    PyTree,
    Schedule,
    check_schedule,
    is_linear,
    wrap_mixer,
)
from fedasync_jax.parts.bounds import at_least, check_value

Decay = Annotated[float, at_least(1)]


class Averaged(NamedTuple):
    """State of a rule that is averaged.

    Attributes:
      rule: what the rule itself remembers.
      average: xbar, a pytree like the model.
    """

    rule: PyTree
    average: PyTree


def averaged(mixer: Mixer, decay: Decay = 9.0) -> Mixer:
    r"""Return ``mixer``, judged by the average of its models.

    .. math::

        \bar x \leftarrow \bar x + \frac{p}{t + p} (x - \bar x)

    What is trained from is the same, bit for bit. A rule around this one judges its
    average, too, so that ``bound_update`` may be on either side.

    Args:
      mixer: the rule.
      decay: p >= 1.

    Raises:
      ValueError: if ``decay`` is below 1 or not finite.
    """
    check_value("decay", Decay, decay)
    return wrap_mixer(mixer, functools.partial(_average, decay=np.float32(decay)))


def _average(mixer: Mixer, decay: np.float32) -> Mixer:
    inner = mixer.update
    if not isinstance(inner, jax.tree_util.Partial):
        inner = jax.tree_util.Partial(inner)

    def begin(model: PyTree) -> Averaged:
        return Averaged(mixer.init(model), model)

    update = jax.tree_util.Partial(_guarded_update, inner, decay)
    return mixer._replace(init=begin, update=update, evaluated=_read_average)


def _read_average(model: PyTree, state: Averaged) -> PyTree:
    del model
    return state.average


def _update(
    inner: MixFn,
    decay: Array,
    local: PyTree,
    state: Averaged,
    current: PyTree,
    *,
    start: PyTree,
    staleness: Array,
    version: Array,
    client: Array,
) -> tuple[PyTree, Averaged, MixInfo]:
    mixed, rule, info = inner(
        local,
        state.rule,
        current,
        start=start,
        staleness=staleness,
        version=version,
        client=client,
    )
    weight = decay / (jnp.asarray(version, jnp.float32) + decay)
    average = tree.lerp(state.average, mixed, weight)
    return mixed, Averaged(rule, average), info


def _check(schedule: Schedule, inner: MixFn, decay: Array) -> None:
    del decay
    check_schedule(inner, schedule)


def _is_linear(inner: MixFn, decay: Array) -> bool:
    del decay
    return is_linear(inner)


_guarded_update = Guarded(_update, _check, _is_linear)
