"""How long an update may be: what the newest ones were says it, not a setting.

With m the median norm ||x_new - x_tau|| of the newest updates that were mixed, and M
the highest that m ever was, an update longer than c m is shortened to c m, and a reply
with one longer than r M is bad. Blame is measured by what was ever usual: late in a run
a node with new data makes steps as long as all did at the beginning, and may.

A node whose updates are too long again and again counts for less: each longer than c m
and 2 m halves what its next are shortened to, down to a sixteenth, and each other
doubles it again.

Before the first few updates both bounds are those of ||x_0||, with c = 1: no honest
task throws away more than all there is. Of a model of zeros, sqrt(n) is in its place, n
the number of values.

Reference: clipping, Sun et al., "Can You Really Backdoor Federated Learning?", arXiv
1911.07963; to the median norm, Nguyen et al., "FLAME: Taming Backdoors in Federated
Learning", USENIX Security 2022, where c is 1 and the median is that of a round.
"""

import collections
import math
from collections.abc import Iterable

import jax
import numpy as np

from fedasync_jax.base import Variables
from fedasync_jax.flower.arrays import BadReply
from fedasync_jax.flower.limits import Limits

_NEWEST = 100  # updates whose median counts
_FEW = 5  # before so many there is no median
_LONG = 2.0  # medians; half of all updates are longer than one
_MOST_HALVINGS = 4


class NormBounds:
    """Bounds on the norm of an update, which follow the updates."""

    def __init__(self, limits: Limits, variables: Variables):
        """Begin with x_0."""
        self._limits = limits
        leaves = jax.tree.leaves(variables)
        norm = math.hypot(*(float(np.linalg.norm(np.ravel(a))) for a in leaves))
        self._start = norm or math.sqrt(sum(np.size(a) for a in leaves))
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._norms: collections.deque[float] = collections.deque(maxlen=_NEWEST)
        self._median = self._highest = 0.0
        self._halvings: collections.Counter[int] = collections.Counter()

    @property
    def _usual(self) -> float:
        """The norm up to which an update is not too long."""
        if not self._median:
            return self._start
        return self._limits.clip_norm_ratio * self._median

    def shorten(self, norm: float, client: int) -> float:
        """Return by what an update must be multiplied, 1 if it is short enough.

        Args:
          norm: of the update, finite.
          client: number of the node that it is from.

        Raises:
          BadReply: if it is so long that its node is to blame.
        """
        limits = self._limits
        most = limits.max_norm_ratio * (self._highest or self._start)
        if limits.max_update_norm is not None:
            most = min(most, limits.max_update_norm)
        if not norm <= most:
            raise BadReply(
                "update too large",
                f"||x_new - x_tau|| must be <= {most:g}, got {norm:g}",
            )
        allowed = math.ldexp(self._usual, -self._halvings[client])
        return min(1.0, allowed / norm) if norm else 1.0

    def note(self, norm: float, client: int) -> None:
        """Note the norm of an update that was mixed, as it came.

        A long one counts as one of the length that is allowed to all, so that nobody
        moves the median by more than his part.
        """
        if self._median:
            is_long = norm > max(self._usual, _LONG * self._median)
            halvings = self._halvings[client] + (1 if is_long else -1)
            self._halvings[client] = min(max(halvings, 0), _MOST_HALVINGS)
        self._norms.append(min(norm, self._usual))
        if len(self._norms) >= _FEW:
            self._median = float(np.median(self._norms))
            self._highest = max(self._highest, self._median)

    def restore(self, updates: Iterable[tuple[float, int]]) -> None:
        """Begin with norm and client of all updates that were mixed, in their order."""
        self.forget()
        for norm, client in updates:
            self.note(norm, client)
