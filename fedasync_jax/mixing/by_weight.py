"""The common part of rules whose weights follow from the schedule alone.

Such a rule says what it does with an arrival of a weight, and how it weighs. Here it
gets both forms of ``Mixer``: one that weighs as arrivals come, for any schedule, and
one with a table of weights, for a schedule that is known.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import (
    Array,
    Arrivals,
    Guarded,
    Mixer,
    MixInfo,
    PyTree,
    Schedule,
    StalenessFn,
)
from fedasync_jax.mixing.rates import weigh_staleness


class WeightedArrival(NamedTuple):
    """One arrival and its weight, see ``base.MixFn``.

    Attributes:
      local: y, the model that the worker returned.
      current: x, the newest model.
      start: x_tau, the model that the worker received.
      weight: float [].
      staleness: int32 [], d, in versions of the rule.
      client: int32 [], who trained.
    """

    local: PyTree
    current: PyTree
    start: PyTree
    weight: Array
    staleness: Array
    client: Array


class MixWeighted(Protocol):
    """What a rule does with an arrival of a weight."""

    def __call__(
        self, numbers: PyTree, state: PyTree, arrival: WeightedArrival, /
    ) -> tuple[PyTree, PyTree, Array]:
        """Return the next model, the next state and the alpha that is shown."""
        ...


class Mean(NamedTuple):
    """State of the form that weighs as arrivals come.

    Attributes:
      num_arrivals: int32 [], so far.
      staleness: float [], their mean staleness.
      rule: what the rule itself remembers.
    """

    num_arrivals: Array
    staleness: Array
    rule: PyTree


class Weigher(NamedTuple):
    """How a rule weighs.

    Attributes:
      weigh: ``weigh(d, mean)``, float [] each: of an arrival, given the mean staleness
        of all so far, itself among them.
      weights: the same of all arrivals, float32 [T]. Each must be computed from those
        before it alone, so that a longer schedule begins with the same bits.
    """

    weigh: Callable[[Array, Array], Array]
    weights: Callable[[Arrivals], np.ndarray]


CheckNumbers = Callable[[Schedule, PyTree], None]


def make_weighted_rule(
    mix: MixWeighted,
    weigher: Weigher,
    init: Callable[[PyTree], PyTree],
    *,
    numbers: PyTree = (),
    check: CheckNumbers | None = None,
    versions_every: int = 1,
    shows_weights: bool = True,
    linear: bool = False,
) -> Mixer:
    """Return a rule in both forms.

    Args:
      mix: a function of a module, so that runs share a program.
      weigher: how it weighs.
      init: ``init(model)``, what the rule remembers.
      numbers: arrays that ``mix`` gets, arguments of the compiled program.
      check: raises ValueError if the numbers do not fit a schedule.
      versions_every: see ``Mixer``, as ``shows_weights``.
      shows_weights: whether ``mix`` returns the weight as it is.
      linear: whether ``mix`` is linear in the models, see ``base.Guarded``.
    """

    def begin(model: PyTree) -> Mean:
        return Mean(jnp.int32(0), jnp.zeros((), float), init(model))

    def update(numbers, local, state, current, *, start, staleness, version, client):
        del version
        d = jnp.asarray(staleness, float)
        count = state.num_arrivals + 1
        mean = state.staleness + (d - state.staleness) / jnp.asarray(count, float)
        weight = jnp.asarray(weigher.weigh(d, mean), float)
        arrival = WeightedArrival(local, current, start, weight, staleness, client)
        model, rule, alpha = mix(numbers, state.rule, arrival)
        info = MixInfo(alpha=alpha, applied=jnp.asarray(True))
        return model, Mean(count, mean, rule), info

    def check_fn(schedule: Schedule, numbers: PyTree) -> None:
        if check is not None:
            check(schedule, numbers)

    def with_weights(table: np.ndarray) -> Mixer:
        fn = _update_from_table(mix, check, linear)
        table = np.asarray(table, np.float32)
        update = jax.tree_util.Partial(fn, numbers, table)
        return Mixer(init, update, versions_every=versions_every)

    return Mixer(
        begin,
        jax.tree_util.Partial(Guarded(update, check_fn, linear), numbers),
        versions_every=versions_every,
        weights=weigher.weights,
        with_weights=with_weights,
        shows_weights=shows_weights,
    )


@functools.cache
def _update_from_table(
    mix: MixWeighted, check: CheckNumbers | None, linear: bool
) -> Guarded:
    """Return the same object for the same rule: runs of it share a program."""

    def update(
        numbers, table, local, state, current, *, start, staleness, version, client
    ):
        weight = jnp.asarray(table)[version]
        arrival = WeightedArrival(local, current, start, weight, staleness, client)
        model, state, alpha = mix(numbers, state, arrival)
        return model, state, MixInfo(alpha=alpha, applied=jnp.asarray(True))

    def check_fn(schedule: Schedule, numbers: PyTree, table: np.ndarray) -> None:
        if len(table) < schedule.num_updates:
            raise ValueError(
                f"weights must be one per update, {schedule.num_updates} for this "
                f"schedule, got {len(table)}"
            )
        if check is not None:
            check(schedule, numbers)

    return Guarded(update, check_fn, linear)


def mean_so_far(staleness: np.ndarray) -> np.ndarray:
    """Return the mean of every prefix, float64 [T], added up in order."""
    return np.cumsum(staleness, dtype=np.int64) / np.arange(1, len(staleness) + 1)


def nothing(model: PyTree) -> PyTree:
    """Return the state of a rule that remembers nothing."""
    del model
    return ()


def scale_by(
    step: float, staleness_fn: StalenessFn | None, power: float = 0.0
) -> Weigher:
    """Return the weights eta s(d).

    Args:
      step: eta.
      staleness_fn: s(d); None: (1 + d)^(-power).
      power: of that.
    """
    s = staleness_fn or (
        lambda staleness: (jnp.asarray(staleness, float) + 1) ** -power
    )

    def weights(arrivals: Arrivals) -> np.ndarray:
        return np.float32(step) * weigh_staleness(s, arrivals.staleness)

    return Weigher(lambda d, mean: step * s(d), weights)


def add_change(
    numbers: PyTree, state: PyTree, arrival: WeightedArrival
) -> tuple[PyTree, PyTree, Array]:
    """Add the weighted change."""
    del numbers
    change = tree.sub(arrival.local, arrival.start)
    mixed = tree.add_scaled(arrival.current, arrival.weight, change)
    return mixed, state, arrival.weight
