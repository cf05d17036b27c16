"""A sweep: curves of every combination of settings, means over its seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fedasync_jax.plotting.bands import Band, draw_bands
from fedasync_jax.plotting.contents import Contents, read_contents
from fedasync_jax.plotting.curves import choose_score, read_curve

_MOST = 24  # panels


def draw_sweep_curves(folder: Path) -> Figure:
    """Draw how good the models of a sweep are, a panel a combination of settings.

    Args:
      folder: of the sweep; ``NAME/seed-N`` is a run.

    Raises:
      ValueError: if no run below it has metrics, there are too many combinations to be
        told apart, or a file cannot be read.
    """
    panels: dict[str, list[Contents]] = {}
    for config in sorted(folder.glob("*/*/config.json")):
        metrics = config.parent / "metrics.jsonl"
        if metrics.is_file() and metrics.stat().st_size:
            seeds = panels.setdefault(config.parent.parent.name, [])
            seeds.append(read_contents(config.parent))
    if not 1 <= len(panels) <= _MOST:
        raise ValueError(
            f"a sweep must have 1 to {_MOST} combinations with metrics to be drawn, "
            f"got {len(panels)} in {folder}"
        )
    runs = [run for seeds in panels.values() for run in seeds]
    score = choose_score([rows for run in runs for rows in run.rows.values()])
    return draw_bands(
        {name: _make_bands(seeds, score) for name, seeds in panels.items()}, score
    )


def _make_bands(seeds: Sequence[Contents], score: str) -> list[Band]:
    """Return a line per method, over the gradients of the seed that came farthest."""
    bands = []
    for method in dict.fromkeys(name for run in seeds for name in run.rows):
        mine = [run for run in seeds if method in run.rows]
        curves = [read_curve(run.rows[method], "gradients", score) for run in mine]
        longest = max((x for x, _ in curves), key=len)
        values = np.full((len(curves), len(longest)), np.nan)
        for row, (_, y) in zip(values, curves, strict=True):
            row[: len(y)] = y
        is_async = any(method in run.asynchronous for run in mine)
        bands.append(Band(method, longest, values, is_async))
    return bands
