"""When a model has exploded, and which one was the last before it.

A model has exploded if its loss is not finite, or twice that of x_0, or above that of
x_0 although it was once half of it: it knows less than nothing. Honest runs whose step
size is too large do so, too; so the server goes back a few times only. Of a loss that
is not above 0 at x_0, only what is not finite is an explosion.
"""

import math

from fedasync_jax.flower.updater import Newest


class Explosions:
    """Watches the loss of evaluated models.

    Attributes:
      good: the newest model that had not exploded, with nothing in a buffer that could
        still make it.
      num_left: how often the server may still go back.
    """

    def __init__(self, max_undos: int, newest: Newest):
        """Begin before the first evaluation, with the model that is evaluated."""
        self.good, self.num_left = newest, max_undos
        self._first: float | None = None
        self._lowest = math.inf

    def note_loss(self, loss: float | None) -> None:
        """Note the loss of a model that is good; the first one is that of x_0."""
        if loss is None or not math.isfinite(loss):
            return
        if self._first is None:
            self._first = loss
        self._lowest = min(self._lowest, loss)

    def is_exploded(self, loss: float | None) -> bool:
        """Return whether a model of this loss has exploded; None: not known.

        >>> watch = Explosions(10, Newest(0, None, ()))
        >>> watch.note_loss(2.0)
        >>> [watch.is_exploded(loss) for loss in (3.9, 4.1, float("nan"))]
        [False, True, True]
        >>> watch.note_loss(0.9)
        >>> watch.is_exploded(2.1)
        True
        """
        if loss is None or self._first is None:
            return False
        if not math.isfinite(loss):
            return True
        has_learned = self._lowest <= self._first / 2
        return 0 < self._first * (1 if has_learned else 2) < loss
