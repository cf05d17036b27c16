"""Numbers that are read off the curves of the compared methods.

Shapes: S seeds, P evaluations.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reproduction.beside.runs import mean_of_last_quarter

Curve = Mapping[str, Sequence[float]]
Curves = Mapping[str, Sequence[Curve]]


def group_curves(results: Mapping[str, Any]) -> dict[str, list[Curve]]:
    """Return the curves of every method, one per seed, by method."""
    curves: dict[str, list[Curve]] = {}
    for record in results["reported"]:
        curves.setdefault(record["method"], []).append(record)
    return curves


def final_values(curves: Sequence[Curve], field: str) -> np.ndarray:
    """Return the mean of the last quarter of the evaluations, [S]."""
    return np.array([mean_of_last_quarter(curve[field]) for curve in curves])


def find_target(curves: Curves) -> float:
    """Return the largest whole per cent of accuracy that all runs reach.

    The first evaluation, of the first model, does not count.
    """
    highest = [
        max(curve["test_accuracy"][1:]) for rows in curves.values() for curve in rows
    ]
    return math.floor(100 * min(highest) + 1e-9) / 100


def reach(curve: Curve, field: str, target: float) -> float:
    """Return where a curve first reaches an accuracy.

    Args:
      curve: of a run that reaches it.
      field: of what is returned: gradients or virtual_time.
      target: the accuracy.

    Returns:
      The value at the first evaluation with that accuracy or more, but for that of
      the first model.
    """
    reached = np.flatnonzero(np.asarray(curve["test_accuracy"][1:]) >= target)
    return float(curve[field][1 + int(reached[0])])


def resample(
    curves: Sequence[Curve], field: str, score: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return curves of several seeds on one axis.

    Seeds differ in what lies between two evaluations, so values are interpolated. A run
    that has ended keeps its last value.

    Args:
      curves: of one method.
      field: gradients or virtual_time.
      score: the values.

    Returns:
      The axis, [P], and the values, [S, P].
    """
    x = np.unique(np.concatenate([curve[field] for curve in curves]))
    y = [np.interp(x, curve[field], curve[score]) for curve in curves]
    return x, np.array(y)
