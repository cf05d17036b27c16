"""Curves: how good the model is, against gradients, updates and simulated time."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from fedasync_jax.plotting.looks import LineStyle, percent, scale_counts
from fedasync_jax.run_folder import Row

_AXES = {
    "gradients": "Gradients",
    "updates": "Server updates",
    "virtual_time": "Simulated time (s)",
}


def draw_scores(
    rows: Mapping[str, Sequence[Row]], styles: Mapping[str, LineStyle]
) -> tuple[str, Figure]:
    """Draw the accuracy, or of language models the perplexity; return which, too."""
    is_text = all("test_perplexity" in lines[-1] for lines in rows.values())
    name = "perplexity" if is_text else "accuracy"
    axes = {  # sampled staleness has no clock
        field: label
        for field, label in _AXES.items()
        if any(rows[method][-1][field] for method in styles)
    }
    fig = Figure(figsize=(3.2 * len(axes), 3.5), layout="constrained")
    panels = fig.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for ax, (field, label) in zip(panels, axes.items(), strict=True):
        for method, style in styles.items():
            x, y = (_column(rows[method], key) for key in (field, f"test_{name}"))
            every = max(1, x.size // 8)
            ax.plot(x, y, **style._asdict(), markevery=every, label=method)
        ax.set_xlabel(label)
        scale_counts(ax, [rows[method][-1][field] for method in styles])
    panels[0].set_ylabel(f"Test {name}")
    if is_text:
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_formatter("{x:,.0f}")
        panels[0].yaxis.set_minor_formatter("{x:,.0f}")
    else:
        panels[0].yaxis.set_major_formatter(percent)
    handles, labels = panels[0].get_legend_handles_labels()
    columns = -(-len(labels) // -(-len(labels) // 4))  # rows of nearly equal length
    fig.legend(handles, labels, loc="outside lower center", ncols=columns)
    return name, fig


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    """Return float values; NaN where there is none."""
    return np.array([row[name] for row in rows], float)
