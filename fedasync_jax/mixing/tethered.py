r"""The tethered rule: changes are added while the model is near their start.

r = min(1, ||Delta|| / ||x - x_tau||), a = min(c, k / (1 + dbar)) r,
x <- x + a (Delta - g (1 - r) (x - x_tau)), Delta = y - x_tau,

dbar being the mean staleness of all arrivals so far, this one among them. It is the
project's own. It needs no knowledge of the number of tasks in flight, the speeds or the
scale of the model.

Its name says what it does: the model runs ahead of a task's start x_tau on a tether as
long as the task's own change. Within it (r = 1) the change is added whole; beyond it,
the change counts for less, and pulls back towards its start, as FedAsync always does.

Derivation. FedAsync's (1 - a) x + a y is x + a Delta - a (x - x_tau); its last term
undoes what the others did meanwhile, the more the staler. Without that term, dbar
others each move the model by a ||Delta|| while one task is under way, k ||Delta|| in
all: k bounds how far a model strays in one delay, in changes of a client. Without
staleness, dbar = 0 and r = 1, it is FedAsync with alpha = c, exactly.

The quadratic oracle: on f(x) = x^2 / 2, where a task returns Delta = -p x_tau, and with
equal delays d, adding is stable iff a p < 2 sin(pi / (2 (2 d + 1))), so for large d iff
k p < pi / 2. No constant that is fast for small p is safe for p = 1, tasks that solve
their problem. Alone, the ratio r does not save it: with k = 4, p = 1, equal delays, it
diverges from d = 4 on. With g = 1, no run diverged (8 delays x 3 laws x 3 values of p,
in 1 and 8 dimensions). So g = 1 is the default.

Limits. That is an experiment, not a proof. A client that is always late has a short
tether, so that where speeds are fixed the slow count for less. g = 0 is faster where
the step size is small for the problem, and fails where it is one that suits FedAvg and
many tasks are in flight: on the digits with 80, at 0.4, it came to 88% where g = 1 came
to 96%. k = 4 was chosen on validation samples; docs/leaderboard.md has what came of it
on others.
"""

from typing import Annotated

import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Mixer, PyTree
from fedasync_jax.mixing.by_weight import (
    Weigher,
    WeightedArrival,
    make_weighted_rule,
    mean_so_far,
    nothing,
)
from fedasync_jax.parts.bounds import Bounds, above
from fedasync_jax.parts.registry import checked


@checked
def tethered(
    most: Annotated[float, Bounds(0, 1, open_low=True)] = 0.5,
    reach: Annotated[float, above(0)] = 4.0,
    guard: Annotated[float, Bounds(0, 1)] = 1.0,
) -> Mixer:
    r"""Return the tethered rule; see the module for formula, derivation and limits.

    .. math::

        x \leftarrow x + a (\Delta - g (1 - r) (x - x_\tau)),
        \quad a = \min\left(c, \frac{k}{1 + \bar d}\right) r,
        \quad r = \min\left(1, \frac{\|\Delta\|}{\|x - x_\tau\|}\right)

    Evaluate its average, ``averaged(tethered())``.

    Args:
      most: largest weight (c), in (0, 1].
      reach: how far the model may stray during one delay (k), in changes of a client, >
        0.
      guard: share of what lies beyond the tether that is pulled back (g), in [0, 1]; 0
        is not safe where tasks solve their problem and all delays are equal.

    Raises:
      ValueError: if a setting is out of range.
    """
    weigher = Weigher(
        lambda d, mean: jnp.minimum(most, reach / (1 + mean)),
        lambda arrivals: np.minimum(
            most, reach / (1 + mean_so_far(arrivals.staleness))
        ).astype(np.float32),
    )
    return make_weighted_rule(
        _mix, weigher, nothing, numbers=np.float32(guard), shows_weights=False
    )


def _mix(
    guard: Array, state: PyTree, arrival: WeightedArrival
) -> tuple[PyTree, PyTree, Array]:
    change = tree.sub(arrival.local, arrival.start)
    gone = tree.sub(arrival.current, arrival.start)
    length, distance = tree.norm(change), tree.norm(gone)
    near = distance <= length
    ratio = jnp.where(near, 1.0, length / jnp.where(near, 1.0, distance))
    weight = arrival.weight * ratio
    tied = tree.add_scaled(change, -guard * (1 - ratio), gone)
    return tree.add_scaled(arrival.current, weight, tied), state, weight
