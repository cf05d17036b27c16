"""Where curves lie between FedAvg and single-thread SGD: the unit of all findings."""

from collections.abc import Iterable

import numpy as np

from reproduction.figures import Cell, Figure
from reproduction.measures import Measures

MARGIN = 0.25
"""What does not matter: a quarter of the distance between the two baselines.

What moves a curve by less leaves it nearer to the same of the two.
"""


class Positions:
    """Positions of curves, in units of the distance between the baselines.

    A position is (m - m of FedAvg) / gap by seed, where gap is the mean over the seeds
    of SGD's less FedAvg's second half. All are NaN where SGD does not lie above. SGD's
    own position differs by seed, and is 1 in the mean only: see ``below_sgd``.
    """

    def __init__(self, measures: Measures, data: str):
        """Take the measures of a data set."""
        self.measures = measures
        self.fedavg, self.sgd = (Cell(data, method) for method in ("fedavg", "sgd"))
        self.gap = float("nan")
        if measures.have(self.fedavg, self.sgd):
            gaps = measures.half(self.sgd) - measures.half(self.fedavg)
            mean = float(np.nanmean(gaps))
            self.gap = mean if mean > 0 else float("nan")

    def of_half(self, cell: Cell) -> np.ndarray:
        """Return the position of the second half, [S]."""
        measures = self.measures
        return (measures.half(cell) - measures.half(self.fedavg)) / self.gap

    def below_sgd(self, cell: Cell) -> np.ndarray:
        """Return how far below SGD of the same seed the second half is, [S]."""
        return self.of_half(self.sgd) - self.of_half(cell)

    def of_end(self, cell: Cell) -> np.ndarray:
        """Return the position of the last quarter, [S]; SGD's own is not quite 1."""
        return self.end_gap(cell, self.fedavg)

    def end_gap(self, cell: Cell, other: Cell) -> np.ndarray:
        """Return how far above another the last quarter is, [S]."""
        return (self.measures.final(cell) - self.measures.final(other)) / self.gap

    def mean_gap(self, cell: Cell, other: Cell) -> np.ndarray:
        """Return how far above another all evaluations are, [S]."""
        return (self.measures.mean(cell) - self.measures.mean(other)) / self.gap

    def distance(self, cell: Cell, other: Cell) -> np.ndarray:
        """Return the mean absolute distance over all evaluations, [S]."""
        return self.measures.distance(cell, other) / self.gap

    def roughness(self, cell: Cell) -> np.ndarray:
        """Return the mean absolute second difference in the second half, [S]."""
        return self.measures.roughness(cell) / self.gap

    def speed(self, cell: Cell) -> np.ndarray:
        """Return log2 of how many times sooner it is where FedAvg ends, [S]."""
        targets = self.measures.final(self.fedavg)
        slow = self.measures.gradients_to(self.fedavg, targets)
        return np.log2(slow / self.measures.gradients_to(cell, targets))

    def list_there(self, figure: Figure) -> list[Cell]:
        """Return the different asynchronous curves of a figure that were run."""
        baselines = (self.fedavg, self.sgd)
        if not self.measures.have(*baselines):
            return []
        return [
            cell for cell in figure.curves() if self.measures.have(cell, *baselines)
        ]


def average(rows: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean over curves by seed, [S]."""
    return np.mean(list(rows), axis=0)
