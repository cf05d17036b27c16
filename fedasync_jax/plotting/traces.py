"""Methods that share a trace, and bins for the staleness of their arrivals."""

from collections.abc import Mapping, Sequence

import numpy as np

from fedasync_jax.plotting.contents import Arrays


def group_traces(updates: Mapping[str, Arrays]) -> list[list[str]]:
    """Return the methods in groups that share a trace."""
    traces: dict[bytes, list[str]] = {}
    for method, arrays in updates.items():
        key = arrays["staleness"].astype(np.int64).tobytes()
        traces.setdefault(key, []).append(method)
    return list(traces.values())


def name_group(methods: Sequence[str], num_methods: int) -> str:
    """Return a name for some of all asynchronous methods."""
    if len(methods) == num_methods > 1:
        return "All asynchronous methods"
    others = len(methods) - 1
    return methods[0] + (f" and {others} more" if others else "")


def make_staleness_bins(staleness: np.ndarray) -> np.ndarray:
    """Return edges around whole numbers, about 60 at most; a thin long tail is cut."""
    top = largest = int(staleness.max())
    percentile = int(np.ceil(np.quantile(staleness, 0.995)))
    if largest > 2 * percentile + 1:
        top = percentile
    width = top // 60 + 1
    return np.arange(-0.5, top + width + 0.5, width)
