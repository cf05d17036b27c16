"""Curves of the compared methods: accuracy and loss, over gradients and over time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

from fedasync_jax.plotting.bands import Band, draw_bands
from fedasync_jax.plotting.looks import STYLE
from reproduction.beside.measures import group_curves, resample
from reproduction.beside.methods import CONTESTANTS

_SCORES = {"accuracy": "test_accuracy", "loss": "test_loss"}
_AXES = {
    "gradients": ("gradients", "Gradients"),
    "time": ("virtual_time", "Simulated time (s)"),
}

PICTURES: Mapping[str, str] = {
    f"{score}-{axis}": f"Test {score} over {words}"
    for axis, words in (("gradients", "gradients"), ("time", "simulated time"))
    for score in _SCORES
}
"""What is drawn, by the name of the file: titles."""


def draw_pictures(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw all pictures, as PNG.

    Args:
      results: see ``make_results``.
      folder: for the pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curves = group_curves(results)
    paths = []
    for name in PICTURES:
        score, axis = name.split("-")
        field, x_label = _AXES[axis]
        bands = [
            Band(
                method,
                *resample(curves[method], field, _SCORES[score]),
                is_async=contestant.is_async,
            )
            for method, contestant in CONTESTANTS.items()
        ]
        with matplotlib.rc_context(STYLE):
            fig = draw_bands({"Synthetic(1, 1)": bands}, score, x_label)
            paths.append(folder / f"{name}.png")
            fig.savefig(paths[-1], dpi=150)
    return paths
