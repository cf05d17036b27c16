"""Numbers that are read off curves, one of every seed.

Values are more, better. Shapes: S seeds, P evaluations.
"""

import numpy as np

from reproduction.evidence import Evidence
from reproduction.figures import Cell


class Measures:
    """What is measured of the curves of one data set."""

    def __init__(self, evidence: Evidence):
        """Measure the curves of ``evidence``."""
        self._curves, self._gradients = evidence.curves, evidence.gradients
        self._whole = evidence.whole
        points = len(evidence.gradients)
        self._half = slice(points // 2, None)
        self._last = slice(points - max(1, points // 4), None)

    def have(self, *cells: Cell) -> bool:
        """Return whether there is a seed that all of them were run with."""
        if not all(cell in self._curves for cell in cells):
            return False
        return bool(np.isfinite(sum(self._curves[cell] for cell in cells)).all(1).any())

    def final(self, cell: Cell) -> np.ndarray:
        """Return the mean of the last quarter of the evaluations, [S]."""
        return self._curves[cell][:, self._last].mean(1)

    def half(self, cell: Cell) -> np.ndarray:
        """Return the mean of the second half of the evaluations, [S]."""
        return self._curves[cell][:, self._half].mean(1)

    def mean(self, cell: Cell) -> np.ndarray:
        """Return the mean of all evaluations, [S]."""
        return self._curves[cell].mean(1)

    def distance(self, cell: Cell, other: Cell) -> np.ndarray:
        """Return the mean absolute distance over all evaluations, [S]."""
        return np.abs(self._curves[cell] - self._curves[other]).mean(1)

    def roughness(self, cell: Cell) -> np.ndarray:
        """Return the mean absolute second difference in the second half, [S].

        A curve that rises evenly has none. NaN of fewer than three evaluations, and of
        a run that ended early.
        """
        values = self._curves[cell][:, self._half]
        if values.shape[1] < 3:
            return np.full(len(values), np.nan)
        rough = np.abs(np.diff(values, n=2)).mean(1)
        return np.where(self._whole[cell], rough, np.nan)

    def gradients_to(self, cell: Cell, targets: np.ndarray) -> np.ndarray:
        """Return the gradients to a value of every seed, [S].

        Interpolated between evaluations; all gradients if it is never reached.
        """
        pairs = zip(self._curves[cell], targets, strict=True)
        return np.array([self._reach(curve, target) for curve, target in pairs])

    def _reach(self, curve: np.ndarray, target: float) -> float:
        if not np.isfinite(target + curve.sum()):
            return np.nan
        above = np.flatnonzero(curve >= target)
        if not len(above):
            return float(self._gradients[-1])
        i = int(above[0])
        if i == 0:
            return 1.0
        (x0, x1), (y0, y1) = self._gradients[i - 1 : i + 1], curve[i - 1 : i + 1]
        return float(x0 + (x1 - x0) * (target - y0) / (y1 - y0))
