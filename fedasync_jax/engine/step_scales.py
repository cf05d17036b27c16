"""The step size that travels with the model: a rule of the server, told by evaluations.

The server sends a factor on the step size with every model. A task trains with the
factor that belonged to the version that it received, or, if it applies at once, to the
newest version when the task is mixed. Either way results depend neither on the width of
the waves nor on when an evaluation is fetched.

Shapes: N tasks.
"""

import bisect
import math
from collections.abc import Callable, Mapping

import numpy as np

from fedasync_jax.base import ArrayLike
from fedasync_jax.engine.history import Evaluation

ScaleRule = Callable[[Mapping[str, ArrayLike]], float]


class StepScales:
    """The factors on the step size, by version; 1 until the first evaluation.

    Attributes:
      versions: evaluated versions, rising, after 0.
      scales: ``scales[i]`` holds from ``versions[i]`` on, until the next.
    """

    def __init__(self, rule: ScaleRule, *, at_once: bool = False):
        """Begin a run with ``rule``: metrics of an evaluation to the factor from then.

        Evaluations come in order, each once.

        Args:
          rule: see ``ScaleRule``.
          at_once: whether a new factor holds for all tasks that are mixed from then on,
            also those that start from an older version.
        """
        self.versions: list[int] = [0]
        self.scales: list[float] = [1.0]
        self._rule, self._at_once = rule, at_once

    def decisive_versions(
        self, start_version: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Return the versions whose factors the tasks train with, int [N].

        A wave ends at every version that is evaluated, so that all its tasks may know
        what was decided before it.

        Args:
          start_version: int [N], of the tasks.
          rows: int [N], of the trace; the newest version before row t is mixed is t.
        """
        return rows if self._at_once else start_version

    def observe(self, evaluation: Evaluation) -> None:
        """Take an evaluation into account.

        Raises:
          ValueError: if the version is not newer than the last one observed.
        """
        if len(self.versions) > 1 and evaluation.version <= self.versions[-1]:
            raise ValueError(
                f"version must be above {self.versions[-1]}, got {evaluation.version}"
            )
        self.versions.append(evaluation.version)
        self.scales.append(self._rule(evaluation.metrics))

    def at(self, versions: np.ndarray) -> np.ndarray:
        """Return the factors that belong to ``versions``, float32 of their shape."""
        places = [bisect.bisect_right(self.versions, v) - 1 for v in versions.tolist()]
        return np.array([self.scales[place] for place in places], np.float32)


def reduce_on_plateau(metric: str, factor: float) -> ScaleRule:
    """Return a rule: times ``factor`` whenever ``metric`` is not below its best so far.

    >>> rule = reduce_on_plateau("loss", 0.25)
    >>> [rule({"loss": loss}) for loss in (3.0, 2.0, 2.0, 1.0, 1.5)]
    [1.0, 1.0, 0.25, 0.25, 0.0625]

    The rule has a memory: make one for every run.

    Args:
      metric: name of a metric that should fall. One that is not finite is no better.
      factor: in (0, 1).

    Raises:
      ValueError: if ``factor`` is out of range.

    Reference: the authors' experiments on WikiText-2, with factor 0.25.
    """
    if not 0 < factor < 1:
        raise ValueError(f"factor must be in (0, 1), got {factor}")
    best, scale = math.inf, 1.0

    def rule(metrics: Mapping[str, ArrayLike]) -> float:
        nonlocal best, scale
        value = float(np.asarray(metrics[metric]))
        if value < best:
            best = value
        else:
            scale *= factor
        return scale

    return rule
