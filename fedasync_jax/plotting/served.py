"""Scores by client as curves: from the worst served on, and from fast to slow."""

from collections.abc import Iterable

import numpy as np

from fedasync_jax.experiment.client_judge import choose_client_score
from fedasync_jax.plotting.contents import Arrays
from fedasync_jax.plotting.points import mean_by_size, thin


def pick_score(scores: Iterable[Arrays]) -> str:
    """Return ``accuracy`` if all methods have it, else ``loss``."""
    names = {choose_client_score(arrays) for arrays in scores}
    return names.pop() if len(names) == 1 else "loss"


def order_scores(
    values: np.ndarray, *, higher_is_better: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of the clients and their scores, from the worst on."""
    ordered = np.sort(np.asarray(values, float))
    ordered = ordered if higher_is_better else ordered[::-1]
    share = np.arange(1, len(ordered) + 1) / len(ordered)
    return thin(share), thin(ordered)


def mean_by_speed(
    seconds: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean seconds a task and mean score of tenths of the clients by speed."""
    known = np.isfinite(seconds) & np.isfinite(values)
    return mean_by_size(seconds[known], np.asarray(values, float)[known])
