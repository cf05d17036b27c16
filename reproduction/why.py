"""Why asynchronous runs end below FedAvg at large staleness: the runs that tell.

FedAsync steps to x + a (y - x) = x + a Delta + a (x_tau - x): the client's change and a
pull towards the stale model that it started from. Three things are suspected: the pull,
the alpha that drops on the way, and runs that are too short. So, on the same traces:
FedAsync without the drop, at several alphas; the delta rule x + a Delta, which has no
pull; and longer runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reproduction.figures import SWEPT_ALPHA, Cell, read_key

NAME = "why"
STALENESS = (16, 50)
ALPHAS = (0.1, 0.3, SWEPT_ALPHA)
STEPS = (0.05, 0.1, 0.3)
LONGER = 2
PULLED = "fedasync-constant"


def list_why_cells() -> list[Cell]:
    """Return the curves that are compared, those of the paper's figures among them."""
    cells = [Cell("cifar", "fedavg"), Cell("cifar", "sgd")]
    for k in STALENESS:
        cells += [paper_cell(k), paper_cell(k)._replace(factor=LONGER)]
        cells += [pulled_cell(k, alpha) for alpha in ALPHAS]
        cells += [delta_cell(k, step) for step in STEPS]
    return [*cells, Cell("cifar", "fedavg", factor=LONGER)]


def list_own_cells() -> list[Cell]:
    """Return the curves that no figure of the paper has."""
    return [c for c in list_why_cells() if not c.is_halved or c.factor > 1]


def paper_cell(max_staleness: int) -> Cell:
    """Return FedAsync as the paper has it, with an alpha that drops."""
    return Cell("cifar", PULLED, max_staleness, SWEPT_ALPHA)


def pulled_cell(max_staleness: int, alpha: float) -> Cell:
    """Return FedAsync whose alpha stays."""
    return Cell("cifar", PULLED, max_staleness, alpha, is_halved=False)


def delta_cell(max_staleness: int, step: float) -> Cell:
    """Return the rule that adds the client's change only."""
    return Cell("cifar", "delta", max_staleness, step, is_halved=False)


def read_ends(records: Sequence[Mapping[str, Any]]) -> dict[Cell, dict[int, float]]:
    """Return the mean of the last quarter of the evaluations, by cell and seed.

    The last quarter in gradients, whatever the evaluations' distance is. Seeds that
    have not all the runs are left out; nothing if there is no seed that has.

    Args:
      records: of a results file.
    """
    wanted, ends = list_why_cells(), {}
    for record in records:
        cell, seed = read_key(record)
        if cell in wanted and record["finished"]:
            x, y = np.array(record["gradients"]), np.array(record["value"], float)
            ends.setdefault(cell, {})[seed] = float(y[x > 0.75 * x[-1]].mean())
    whole = [
        seed
        for seed in ends.get(wanted[0], {})
        if all(seed in ends.get(cell, {}) for cell in wanted)
    ]
    if not whole:
        return {}
    return {cell: {seed: ends[cell][seed] for seed in whole} for cell in wanted}
