"""Curves as numbers: which score is shown, where its points are, what part matters."""

from collections.abc import Collection, Sequence

import numpy as np

from fedasync_jax.jobs.scores import name_score
from fedasync_jax.storage.run_folder import Row

_LITTLE = 0.4  # of the height, below which late values get more


def choose_score(methods: Collection[Sequence[Row]]) -> str:
    """Return ``perplexity``, ``accuracy`` or ``loss``: what all methods have."""
    names = {name_score(rows[-1]) for rows in methods}
    if len(names) == 1:
        return names.pop()
    return "loss" if "loss" in names else "accuracy"


def read_curve(
    rows: Sequence[Row], field: str, score: str, unit: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return x, divided by a unit, and y as float; NaN where there is none."""
    x, y = (
        np.array([row[name] for row in rows], float)
        for name in (field, f"test_{score}")
    )
    return x / unit, y


def choose_limits(
    curves: Sequence[np.ndarray], *, is_log: bool
) -> tuple[float, float] | None:
    """Return limits in which the second halves of curves are seen.

    None where they span much of the whole height anyhow.
    """
    late = clean_values([curve[curve.size // 2 :] for curve in curves], is_log)
    values = clean_values(curves, is_log)
    if not late.size:
        return None
    low, high = late.min(), late.max()
    room = (high - low) / 4
    if not 0 < high - low < _LITTLE * (values.max() - values.min()):
        return None
    limits, edge = np.array([low - room, high + room]), room / 8
    bottom, top = np.clip(limits, values.min() - edge, values.max() + edge)
    return tuple(np.exp([bottom, top]).tolist()) if is_log else (bottom, top)


def clean_values(curves: Sequence[np.ndarray], is_log: bool) -> np.ndarray:
    """Return all finite values, as they lie along the axis."""
    values = np.concatenate([np.zeros(0), *curves])
    values = values[np.isfinite(values) & (values > 0 if is_log else True)]
    return np.log(values) if is_log else values
