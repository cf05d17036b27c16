"""Adding the client's change instead of pulling towards its model.

x <- x + eta s(d) Delta, Delta = y - x_tau.

FedAsync's (1 - a) x + a y is x + a Delta - a (x - x_tau): its last term undoes, for the
stale, what the others did meanwhile. Without it nothing is undone, so that the step may
be smaller and needs to be: the more tasks in flight, the more changes of the same start
add up.
"""

from typing import Annotated

from fedasync_jax.base import Mixer, StalenessFn
from fedasync_jax.mixing.by_weight import (
    add_change,
    make_weighted_rule,
    nothing,
    scale_by,
)
from fedasync_jax.parts.bounds import above
from fedasync_jax.parts.registry import checked


@checked
def delta(
    step: Annotated[float, above(0)] = 0.1, staleness_fn: StalenessFn | None = None
) -> Mixer:
    r"""Return the rule x <- x + eta s(d) (y - x_tau).

    .. math::

        x \leftarrow x + \eta \, s(d) (y - x_\tau)

    It is FedBuff (arXiv 2106.06639) with a buffer of one; the form is sure. The default
    is cautious: with s = polynomial(0.5), 0.8 was the faster on the digits.

    Args:
      step: factor on the change of a client that is not stale (eta), > 0.
      staleness_fn: s(d); default: 1.

    Raises:
      ValueError: if ``step`` is not finite and positive.
    """
    weigher = scale_by(step, staleness_fn)
    return make_weighted_rule(add_change, weigher, nothing, linear=True)
