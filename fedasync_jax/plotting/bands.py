"""Means over seeds: curves with bands, and final metrics against a setting."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedasync_jax.plotting.curves import scale_scores
from fedasync_jax.plotting.looks import add_legend, columns_of, scale_counts
from fedasync_jax.plotting.styles import LineStyle, assign_styles

_WIDTH = 1.6  # of the narrowest line


class Band(NamedTuple):
    """One line of a panel.

    Attributes:
      label: name of the method.
      x: [P].
      values: [S, P], one row per seed; NaN where a seed has none.
      is_async: whether it is drawn as an asynchronous method.
    """

    label: str
    x: np.ndarray
    values: np.ndarray
    is_async: bool = True


def draw_bands(
    panels: Mapping[str, Sequence[Band]], score: str, x_label: str = "Gradients"
) -> Figure:
    """Draw curves: means over seeds, bands of one standard deviation.

    Args:
      panels: bands by title; equal labels look the same.
      score: accuracy, perplexity or loss, which is what values are.
      x_label: name of what they are drawn against.
    """
    fig, axes, styles = _make_panels(panels)
    for ax, bands in zip(axes, panels.values(), strict=True):
        _draw_all(ax, bands, styles)
        ax.set_xlabel(x_label)
        scale_counts(ax, [band.x[-1] for band in bands])
    drawn = [row for bands in panels.values() for band in bands for row in band.values]
    _finish(fig, axes, score, drawn)
    return fig


def draw_against(
    panels: Mapping[str, Sequence[Band]],
    score: str,
    x_label: str,
    levels: Sequence[Band] = (),
) -> Figure:
    """Draw final metrics against a setting, on a logarithmic scale.

    Args:
      panels: bands by title.
      score: accuracy or perplexity.
      x_label: name of the setting.
      levels: what does not depend on it, with values [S, 1].
    """
    fig, axes, styles = _make_panels(
        {title: [*bands, *levels] for title, bands in panels.items()}
    )
    for ax, bands in zip(axes, panels.values(), strict=True):
        _draw_all(ax, bands, styles)
        ticks = np.unique(np.concatenate([band.x for band in bands]))
        ends = ticks[[0, -1]].astype(float)
        for level in levels:
            flat = Band(level.label, ends, np.repeat(level.values, 2, axis=1), False)
            _draw(ax, flat, styles[level.label], _WIDTH)
        ax.set_xscale("log")
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel(x_label)
    _finish(fig, axes, score)
    return fig


def _make_panels(
    panels: Mapping[str, Sequence[Band]],
) -> tuple[Figure, list[Axes], dict[str, LineStyle]]:
    bands = {band.label: band for lines in panels.values() for band in lines}
    asynchronous = {label for label, band in bands.items() if band.is_async}
    columns = columns_of(len(panels))
    rows = -(-len(panels) // columns)
    size = 0.8 + 3.4 * columns, 0.6 + 3.0 * rows
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    for ax in axes[len(panels) :]:
        ax.remove()
    axes = axes[: len(panels)]
    for ax, title in zip(axes, panels, strict=True):
        ax.set_title(title, loc="left")
    return fig, axes, assign_styles(list(bands), asynchronous)


def _draw_all(ax: Axes, bands: Sequence[Band], styles: Mapping[str, LineStyle]) -> None:
    """Draw the lines, each a little narrower than the one before, so that two show."""
    follow = sum(band.is_async for band in bands)
    for band in bands:
        follow -= band.is_async
        width = _WIDTH + 0.7 * follow * band.is_async
        _draw(ax, band, styles[band.label], width)


def _draw(ax: Axes, band: Band, style: LineStyle, width: float) -> None:
    values = np.ma.masked_invalid(band.values)
    mean = values.mean(0)
    if values.count(0).max() > 1:
        sd = values.std(0, ddof=1)
        look = {"color": style.color, "alpha": 0.18, "linewidth": 0}
        ax.fill_between(band.x, mean - sd, mean + sd, **look)
    look = {**style._asdict(), "linewidth": width, "label": band.label}
    ax.plot(band.x, mean, **look, markevery=max(1, band.x.size // 8))


def _finish(
    fig: Figure, axes: Sequence[Axes], score: str, curves: Sequence[np.ndarray] = ()
) -> None:
    axes[0].set_ylabel(f"Test {score}")
    scale_scores(axes[0], score, curves)
    add_legend(fig, 2 if len(axes) == 1 else 5)
