"""A guard for any mixing rule: an update that is too large is not mixed.

A worker that diverges, or lies, sends a model that is far from the one it received.
"""

import functools

import jax
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
    wrap_mixer,
)


def bound_update(mixer: Mixer, max_norm: float) -> Mixer:
    """Return ``mixer``, but x_new is rejected if ||x_new - x_tau|| > ``max_norm``.

    The norm is the Euclidean one over all leaves of the model as it is sent, running
    statistics included, in float32. A rejected arrival changes neither the model nor
    the state of the rule, and its ``applied`` is False; the version rises all the same.

    Args:
      mixer: the rule for the others.
      max_norm: the bound, > 0.

    Raises:
      ValueError: if ``max_norm`` is not positive.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be > 0, got {max_norm}")

    return wrap_mixer(mixer, functools.partial(_bound, bound=np.float32(max_norm)))


def _bound(mixer: Mixer, bound: np.float32) -> Mixer:
    inner = mixer.update
    if not isinstance(inner, jax.tree_util.Partial):
        inner = jax.tree_util.Partial(inner)
    return mixer._replace(update=jax.tree_util.Partial(_guarded_update, inner, bound))


def _update(
    inner: MixFn,
    max_norm: Array,
    local: PyTree,
    state: PyTree,
    current: PyTree,
    *,
    start: PyTree,
    staleness: Array,
    version: Array,
    client: Array,
) -> tuple[PyTree, PyTree, MixInfo]:
    mixed, next_state, info = inner(
        local,
        state,
        current,
        start=start,
        staleness=staleness,
        version=version,
        client=client,
    )
    near = tree.norm(tree.sub(local, start)) <= max_norm
    model, state = tree.where(near, (mixed, next_state), (current, state))
    return model, state, MixInfo(info.alpha, info.applied & near)


def _check(schedule: Schedule, inner: MixFn, max_norm: Array) -> None:
    del max_norm
    check_schedule(inner, schedule)


_guarded_update = Guarded(_update, _check)
