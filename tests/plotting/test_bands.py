"""Means over seeds, drawn."""

import matplotlib
import numpy as np
import pytest

from fedasync_jax.plotting.bands import Band, draw_against, draw_bands
from fedasync_jax.plotting.looks import STYLE

X = np.array([0, 1000, 2000])


@pytest.fixture(autouse=True)
def _style():
    with matplotlib.rc_context(STYLE):
        yield


def _find(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def _heights(ax, label):
    return np.asarray(_find(ax, label).get_ydata(), float).tolist()


def test_lines_are_means_and_bands_one_standard_deviation():
    values = np.array([[0.1, 0.2, 0.3], [0.1, 0.4, 0.5], [np.nan, np.nan, np.nan]])
    fig = draw_bands({"one": [Band("A", X, values)]}, "accuracy")
    (ax,) = fig.axes
    assert _heights(ax, "A") == pytest.approx([0.1, 0.3, 0.4])
    (area,) = ax.collections
    extent = area.get_paths()[0].get_extents()
    sd = np.std([0.2, 0.4], ddof=1)
    assert extent.ymax == pytest.approx(0.4 + sd)
    assert extent.ymin == pytest.approx(0.1)


def test_one_seed_has_no_band():
    fig = draw_bands({"one": [Band("A", X, np.ones((1, 3)))]}, "perplexity")
    assert not fig.axes[0].collections
    assert fig.axes[0].get_yscale() == "log"


def test_two_equal_lines_can_both_be_seen():
    bands = [Band(name, X, np.ones((2, 3))) for name in "ABC"]
    bands.append(Band("SGD", X, np.ones((2, 3)), is_async=False))
    fig = draw_bands({"one": bands, "two": bands[:1]}, "accuracy")
    widths = [_find(fig.axes[0], name).get_linewidth() for name in "ABC"]
    assert widths == sorted(set(widths), reverse=True)
    base = _find(fig.axes[0], "SGD")
    assert base.get_linewidth() == min(widths) and base.get_linestyle() == "--"
    colors = {_find(ax, "A").get_color() for ax in fig.axes}
    assert len(colors) == 1


def test_final_metrics_against_a_setting():
    x = np.array([2, 4, 50])
    levels = [Band("FedAvg", np.zeros(1), np.array([[0.5], [0.7]]), is_async=False)]
    bands = [Band("A", x, np.array([[0.1, 0.2, 0.3]]))]
    fig = draw_against({"one": bands}, "accuracy", "Max staleness", levels)
    (ax,) = fig.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "4", "50"]
    level = _find(ax, "FedAvg")
    assert _heights(ax, "FedAvg") == pytest.approx([0.6, 0.6])
    np.testing.assert_array_equal(level.get_xdata(), [2, 50])
    assert ax.get_xlabel() == "Max staleness" and ax.get_ylabel() == "Test accuracy"


def test_the_second_halves_of_curves_get_most_of_the_height():
    start = np.linspace(0.1, 0.9, 5)
    values = np.array([[*start, *np.linspace(0.93, top, 5)] for top in (0.95, 0.98)])
    fig = draw_bands({"one": [Band("A", np.arange(10), values)]}, "accuracy")
    bottom, top = fig.axes[0].get_ylim()
    assert top > 0.98 and 0.1 < bottom < 0.93
    assert (0.98 - 0.93) / (top - bottom) > 0.6
    whole = draw_bands({"one": [Band("A", np.arange(5), start[None])]}, "accuracy")
    assert whole.axes[0].get_ylim()[0] < 0.1  # nothing of it is worth more


def test_the_second_halves_get_most_of_a_logarithmic_height():
    start = np.geomspace(5000.0, 130.0, 5)
    values = np.array([[*start, *np.linspace(120.0, end, 5)] for end in (100.0, 110.0)])
    fig = draw_bands({"one": [Band("A", np.arange(10), values)]}, "perplexity")
    bottom, top = np.log(fig.axes[0].get_ylim())
    assert np.log(120.0 / 100.0) / (top - bottom) > 0.6
    assert bottom <= np.log(100.0) and top >= np.log(120.0)


def test_many_panels_stand_in_rows():
    band = Band("A", X, np.ones((1, 3)))
    fig = draw_bands({str(n): [band] for n in range(5)}, "accuracy")
    assert len(fig.axes) == 5
    fig.draw_without_rendering()
    assert len({round(ax.get_position().y0, 2) for ax in fig.axes}) == 2
