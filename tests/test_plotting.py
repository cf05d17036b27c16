"""Pictures: what is drawn from a run folder, and which folders are refused."""

import json

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fedasync_jax import plotting, run_folder
from fedasync_jax.plotting import arrivals, curves, looks

METHODS = {
    "FedAsync constant": lambda d: 0.6 + 0.0 * d,
    "FedAsync polynomial(0.5)": lambda d: 0.6 * (d + 1.0) ** -0.5,
    "FedAsync hinge(10, 4)": lambda d: 0.6 / (10.0 * np.maximum(d - 4, 0) + 1),
    "FedAvg": None,
    "SGD": None,
}
NUM_UPDATES = 2000


def make_rows(method, seed, num_updates=NUM_UPDATES):
    rng = np.random.default_rng(seed)
    per_update = 10 if method == "FedAvg" else 1
    scale = 1500 if method == "SGD" else 400 + 150 * seed
    for version in range(0, num_updates + 1, 50):
        gradients = 50 * per_update * version
        accuracy = 0.1 + 0.8 * (1 - np.exp(-version * per_update**0.5 / scale))
        yield {
            "method": method,
            "version": version,
            "updates": version,
            "gradients": gradients,
            "virtual_time": version * (1.7 if method == "FedAvg" else 0.11),
            "test_accuracy": accuracy + 0.01 * rng.normal(),
            "test_loss": 2.3 - 2 * accuracy,
            "mean_staleness": 9.0,
            "mean_alpha": 0.2,
            "rejected": 0,
            "wall_seconds": 0.01 * version,
        }


def write_run(folder, methods=METHODS, staleness=None):
    """Write a run whose asynchronous methods share one trace."""
    rng = np.random.default_rng(0)
    if staleness is None:
        staleness = rng.gamma(6.0, 1.6, NUM_UPDATES).astype(np.int32)
    (folder / "config.json").write_text("{}")
    with open(folder / "metrics.jsonl", "w") as file:
        for seed, method in enumerate(methods):
            for row in make_rows(method, seed):
                file.write(json.dumps(row) + "\n")
    for method, alpha_fn in methods.items():
        stale = staleness if alpha_fn else np.zeros_like(staleness)
        write_updates(folder, method, stale, (alpha_fn or np.ones_like)(stale))
    return folder


def write_updates(folder, method, staleness, alpha):
    path = folder / run_folder.slugify(method)
    path.mkdir()
    versions = np.arange(len(staleness))
    np.savez(
        path / "updates.npz",
        client=versions % 100,
        start_version=versions - staleness,
        staleness=staleness,
        arrival_time=0.11 * versions,
        alpha=alpha,
        applied=versions % 10 != 3,
        loss=1.0 / (versions + 1),
    )


def load(folder):
    rows = run_folder.read_metrics(folder)
    updates = {
        method: arrays
        for method in rows
        if (arrays := run_folder.read_updates(folder, method)) is not None
        and plotting._is_asynchronous(method, arrays)
    }
    return rows, updates, looks.assign_styles(list(rows), set(updates))


# ---- pictures ----


def test_draw_run_writes_three_pictures(tmp_path):
    paths = plotting.draw_run(write_run(tmp_path))
    names = ["accuracy.png", "staleness.png", "alpha.png"]
    assert paths == [tmp_path / "plots" / name for name in names]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
    assert plotting.draw_run(str(tmp_path)) == paths  # a second time overwrites


def test_accuracy_has_every_method_in_every_panel(tmp_path):
    rows, _, styles = load(write_run(tmp_path))
    _, fig = curves.draw_scores(rows, styles)
    assert [ax.get_xlabel() for ax in fig.axes] == [
        "Gradients",
        "Server updates",
        "Simulated time (s)",
    ]
    assert fig.axes[0].get_ylabel() == "Test accuracy"
    for ax, field in zip(fig.axes, curves._AXES, strict=True):
        assert [line.get_label() for line in ax.lines] == list(METHODS)
        for line, method in zip(ax.lines, METHODS, strict=True):
            expected = [row[field] for row in rows[method]]
            np.testing.assert_array_equal(line.get_xdata(), expected)
            assert line.get_color() == styles[method].color
    labels = [text.get_text() for text in fig.legends[0].get_texts()]
    assert labels == list(METHODS)


def test_methods_are_told_apart_and_baselines_are_dashed(tmp_path):
    _, _, styles = load(write_run(tmp_path))
    assert len(set(styles.values())) == len(METHODS)
    for method, style in styles.items():
        assert (style.linestyle == "-") == method.startswith("FedAsync")


def test_a_shared_trace_is_drawn_once_with_its_mean(tmp_path):
    _, updates, styles = load(write_run(tmp_path))
    fig = arrivals.draw_staleness(updates, styles)
    (ax,) = fig.axes
    assert ax.get_xlabel() == "Staleness (versions)"
    assert len(ax.patches) == 1
    (mean,) = ax.lines
    staleness = updates["FedAsync constant"]["staleness"]
    assert np.asarray(mean.get_xdata())[0] == staleness.mean()
    (text,) = fig.legends[0].get_texts()
    assert text.get_text() == (
        f"All asynchronous methods: mean {staleness.mean():.3g} (dashed), "
        f"largest {staleness.max()}"
    )


def test_different_traces_are_drawn_both(tmp_path):
    write_run(tmp_path)
    write_updates(tmp_path, "FedBuff", np.full(50, 3), np.ones(50))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(json.dumps(next(make_rows("FedBuff", 9))) + "\n")
    _, updates, styles = load(tmp_path)
    fig = arrivals.draw_staleness(updates, styles)
    assert len(fig.axes[0].patches) == len(fig.axes[0].lines) == 2
    labels = [text.get_text().split(":")[0] for text in fig.legends[0].get_texts()]
    assert labels == ["FedAsync constant and 2 more", "FedBuff"]


def test_histogram_is_the_share_of_each_staleness(tmp_path):
    staleness = np.array([0, 0, 0, 1, 1, 3, 3, 3, 3, 3])
    methods = {"FedAsync constant": METHODS["FedAsync constant"]}
    _, updates, styles = load(write_run(tmp_path, methods, staleness))
    (ax,) = arrivals.draw_staleness(updates, styles).axes
    outline = ax.patches[0].get_path()
    for value, share in enumerate([0.3, 0.2, 0.0, 0.5]):
        assert outline.contains_point((value, share - 0.01)) == (share > 0)
        assert not outline.contains_point((value, share + 0.01))


def test_bins_hold_all_values_but_a_thin_long_tail():
    edges = arrivals._make_bins(np.arange(25))
    np.testing.assert_array_equal(edges, np.arange(26) - 0.5)
    edges = arrivals._make_bins(np.array([0] * 500 + [100] * 500 + [2500]))
    assert edges[-1] > 100 and edges[-1] < 105
    assert len(edges) <= 62


@pytest.mark.parametrize(("longest", "scale"), [(40.0, "linear"), (60.0, "log")])
def test_curves_of_very_different_length_get_a_logarithmic_axis(longest, scale):
    ax = arrivals.Figure().subplots()
    looks.scale_counts(ax, [0.0, 10.0, longest])
    assert ax.get_xscale() == scale


def test_alpha_has_one_panel_per_asynchronous_method(tmp_path):
    _, updates, styles = load(write_run(tmp_path))
    fig = arrivals.draw_alpha(updates, styles)
    panels = [ax for ax in fig.axes if ax.get_visible()]
    titles = [ax.get_title(loc="left") for ax in panels]
    assert titles == [m for m in METHODS if m.startswith("FedAsync")]
    assert fig.get_supxlabel() == "Server updates"
    assert "alpha" in fig.get_supylabel()
    points = panels[1].lines[0]
    applied = np.flatnonzero(updates[titles[1]]["applied"])
    np.testing.assert_array_equal(points.get_xdata(), applied + 1)
    np.testing.assert_array_equal(
        points.get_ydata(), updates[titles[1]]["alpha"][applied]
    )
    assert to_hex(points.get_color()) == styles[titles[1]].color.lower()


@pytest.mark.parametrize(("smallest", "scale"), [(0.1, "linear"), (0.01, "log")])
def test_weights_that_span_much_get_a_logarithmic_axis(smallest, scale):
    arrays = {
        "staleness": np.arange(3),
        "alpha": np.array([0.6, 0.3, smallest]),
        "applied": np.ones(3, bool),
    }
    styles = looks.assign_styles(["FedAsync"], {"FedAsync"})
    fig = arrivals.draw_alpha({"FedAsync": arrays}, styles)
    assert fig.axes[0].get_yscale() == scale


def test_running_mean_is_the_mean_of_each_window():
    y = np.arange(60.0) ** 2
    x, mean = arrivals._running_mean(np.arange(1, 61), y)
    np.testing.assert_allclose(mean[7], y[7:10].mean())
    assert x[7] == 9  # the middle of 8, 9, 10
    assert len(x) == len(mean) == 58


def test_without_asynchronous_methods_only_accuracy_is_drawn(tmp_path):
    run_dir = write_run(tmp_path, {"FedAvg": None, "SGD": None})
    assert [path.name for path in plotting.draw_run(run_dir)] == ["accuracy.png"]


# ---- reading ----


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = write_run(tmp_path) / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-40])
    rows = run_folder.read_metrics(tmp_path)
    assert rows["SGD"][-1]["version"] == NUM_UPDATES - 50
    assert len(plotting.draw_run(tmp_path)) == 3


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = write_run(tmp_path) / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4][:30], *lines[5:]]))
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 5, must be JSON"):
        run_folder.read_metrics(tmp_path)


def test_the_later_of_two_lines_of_a_version_holds(tmp_path):
    rows = list(make_rows("SGD", 0))
    rows += [{**rows[3], "test_accuracy": 0.75}]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text)
    read = run_folder.read_metrics(tmp_path)["SGD"]
    assert [row["version"] for row in read] == [row["version"] for row in rows[:-1]]
    assert read[3]["test_accuracy"] == 0.75


@pytest.mark.parametrize("text", [None, "", '{"method": "SG'])
def test_a_folder_without_metrics_is_refused_in_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.jsonl.*, got ") as error:
        plotting.draw_run(tmp_path)
    assert "\n" not in str(error.value)


def test_an_archive_cut_short_is_refused_in_one_line(tmp_path):
    path = write_run(tmp_path) / "fedasync-constant" / "updates.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"updates\.npz must be an archive") as error:
        plotting.draw_run(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "slug"),
    [
        ("FedAsync polynomial(0.5)", "fedasync-polynomial-0-5"),
        ("FedAsync hinge(10, 4)", "fedasync-hinge-10-4"),
        ("SGD", "sgd"),
    ],
)
def test_slug(method, slug):
    assert run_folder.slugify(method) == slug
