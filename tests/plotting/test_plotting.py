"""Pictures: what is drawn from a run folder, and which folders are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run_script
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fedasync_jax import plotting
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.plotting import (
    compare,
    contents,
    curves,
    labels,
    looks,
    lost,
    over_time,
    participation,
    pictures,
    points,
    staleness,
    timeline,
    traces,
    weights,
)
from fedasync_jax.plotting.styles import assign_styles, choose_unit
from fedasync_jax.schedule.timeline import ACTIVITIES
from fedasync_jax.schedule.trace import LOSS_REASONS
from fedasync_jax.storage import read_run

METHODS = {
    "FedAsync constant": lambda d: 0.6 + 0.0 * d,
    "FedAsync polynomial(0.5)": lambda d: 0.6 * (d + 1.0) ** -0.5,
    "FedAsync hinge(10, 4)": lambda d: 0.6 / (10.0 * np.maximum(d - 4, 0) + 1),
    "FedAvg": None,
    "SGD": None,
}
NUM_UPDATES = 2000
ARRIVALS = ["accuracy", "staleness", "alpha", "staleness_over_time"]


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
            "updates": None if method == "SGD" else version,
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
    folder.mkdir(exist_ok=True)
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
    path = folder / slugify(method)
    path.mkdir()
    versions = np.arange(len(staleness))
    np.savez(
        path / "updates.npz",
        client=versions % 100,
        start_version=versions - staleness,
        start_time=0.11 * (versions - staleness),
        staleness=staleness,
        arrival_time=0.11 * versions,
        alpha=alpha,
        applied=versions % 10 != 3,
        loss=1.0 / (versions + 1),
    )


def write_fleet(folder, methods=("FedAsync constant", "FedAvg")):
    """Write what the clients of a run have, did and lost."""
    np.savez(
        folder / "clients.npz",
        num_samples=np.arange(5, 105),
        label_counts=np.eye(10, dtype=int)[np.arange(100) % 10] * 7,
    )
    for method in methods:
        path = folder / slugify(method)
        np.savez(path / "timeline.npz", **make_timeline())
        np.savez(path / "lost.npz", **make_lost(left=3, failed=5, unfinished=2))
    return folder


def make_timeline(num_tasks=20):
    """Return tasks of 1 + 2 + 1 s for client 3, of 2 + 4 + 2 s for client 8."""
    rows = []
    for client, pace in ((8, 2.0), (3, 1.0)):
        for task in range(num_tasks):
            times = pace * (5 * task + np.array([0, 1, 3, 4]))
            activities = ("download", "work", "upload")
            rows += [(client, *times[i : i + 2], a) for i, a in enumerate(activities)]
    return make_rows_of_activities(rows)


def make_rows_of_activities(rows):
    client, start, end, names = zip(*rows, strict=True)
    return {
        "client": np.array(client, np.int32),
        "start": np.array(start, float),
        "end": np.array(end, float),
        "activity": np.array([ACTIVITIES.index(n) for n in names], np.int8),
    }


def make_lost(**counts):
    """Return so many lost tasks by reason, spread over 200 seconds."""
    reasons = [name.replace("_", " ") for name in counts]
    codes = np.repeat(
        [LOSS_REASONS.index(name) for name in reasons], [*counts.values()]
    )
    ends = np.linspace(0, 199, len(codes))
    return {
        "client": np.arange(len(codes)),
        "start_time": ends - 1,
        "end_time": ends,
        "reason": codes.astype(np.int8),
    }


def load(folder):
    run = contents.read_contents(folder)
    updates = {m: run.updates[m] for m in run.asynchronous if m in run.updates}
    return run.rows, updates, run.styles


def boxes_of(ax):
    """Return [N, 4], left, lower, right and upper ends, of all boxes by label."""
    return {
        str(boxes.get_label()): np.array(
            [path.get_extents().extents for path in boxes.get_paths()]
        )
        for boxes in ax.collections
        if isinstance(boxes, PolyCollection)
    }


def bars_of(ax):
    """Return (row, start, end) of all bars by label."""
    return {
        label: [
            ((low + high) / 2, start, end) for start, low, end, high in boxes.tolist()
        ]
        for label, boxes in boxes_of(ax).items()
    }


def heights_of(ax):
    """Return heights and lower ends of stacked bars, [labels, bars]."""
    bars = [container.patches for container in ax.containers]
    heights = [[bar.get_height() for bar in each] for each in bars]
    return np.array(heights), np.array([[bar.get_y() for bar in each] for each in bars])


def assert_line(line, x, y):
    np.testing.assert_allclose(line.get_xdata(), x)
    np.testing.assert_allclose(line.get_ydata(), y)


def names_of_pictures(folder):
    return [name for name, _ in pictures._draw_all(contents.read_contents(folder))]


def titles_of(axes):
    return [ax.get_title(loc="left") for ax in axes]


def test_what_is_asynchronous_is_read_and_not_guessed_from_the_name(tmp_path):
    folder = write_run(tmp_path / "run")
    assert contents.read_contents(folder).asynchronous == [
        method for method, alpha_fn in METHODS.items() if alpha_fn
    ]
    for method in METHODS:  # the other way round
        path = folder / slugify(method) / "method.json"
        is_async = METHODS[method] is None
        path.write_text(json.dumps({"name": method, "is_async": is_async}))
    assert contents.read_contents(folder).asynchronous == [
        method for method, alpha_fn in METHODS.items() if not alpha_fn
    ]
    (folder / "fedavg" / "method.json").write_text("{}")
    with pytest.raises(ValueError, match=r"method\.json must be JSON with name"):
        contents.read_contents(folder)


# ---- pictures ----


def test_a_folder_with_arrivals_only_gives_four_pictures(tmp_path):
    paths = plotting.draw_run(write_run(tmp_path))
    assert paths == [tmp_path / "plots" / f"{name}.png" for name in ARRIVALS]
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
            expected = np.array([row[field] for row in rows[method]], float)
            np.testing.assert_array_equal(line.get_xdata(), expected)
            assert line.get_color() == styles[method].color
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert names == list(METHODS)


def test_methods_are_told_apart_and_baselines_are_dashed(tmp_path):
    _, _, styles = load(write_run(tmp_path))
    assert len(set(styles.values())) == len(METHODS)
    for method, style in styles.items():
        assert (style.linestyle == "-") == method.startswith("FedAsync")


def test_a_shared_trace_is_drawn_once_with_its_mean(tmp_path):
    _, updates, styles = load(write_run(tmp_path))
    fig = staleness.draw_staleness(updates, styles)
    (ax,) = fig.axes
    assert ax.get_xlabel() == "Staleness (versions)"
    assert len(ax.patches) == 1
    (mean,) = ax.lines
    stale = updates["FedAsync constant"]["staleness"]
    assert np.asarray(mean.get_xdata())[0] == stale.mean()
    (text,) = fig.legends[0].get_texts()
    assert text.get_text() == (
        f"All asynchronous methods: mean {stale.mean():.3g} (dashed), "
        f"largest {stale.max()}"
    )


def test_different_traces_are_drawn_both(tmp_path):
    write_run(tmp_path)
    write_updates(tmp_path, "FedBuff", np.full(50, 3), np.ones(50))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(json.dumps(next(make_rows("FedBuff", 9))) + "\n")
    _, updates, styles = load(tmp_path)
    fig = staleness.draw_staleness(updates, styles)
    assert len(fig.axes[0].patches) == len(fig.axes[0].lines) == 2
    names = [text.get_text().split(":")[0] for text in fig.legends[0].get_texts()]
    assert names == ["FedAsync constant and 2 more", "FedBuff"]
    fig = over_time.draw_staleness_over_time(updates, {}, styles)
    assert titles_of(fig.axes) == ["FedAsync constant and 2 more", "FedBuff"]


def test_histogram_is_the_share_of_each_staleness(tmp_path):
    stale = np.array([0, 0, 0, 1, 1, 3, 3, 3, 3, 3])
    methods = {"FedAsync constant": METHODS["FedAsync constant"]}
    _, updates, styles = load(write_run(tmp_path, methods, stale))
    (ax,) = staleness.draw_staleness(updates, styles).axes
    outline = ax.patches[0].get_path()
    for value, share in enumerate([0.3, 0.2, 0.0, 0.5]):
        assert outline.contains_point((value, share - 0.01)) == (share > 0)
        assert not outline.contains_point((value, share + 0.01))


def test_bins_hold_all_values_but_a_thin_long_tail():
    edges = traces.make_staleness_bins(np.arange(25))
    np.testing.assert_array_equal(edges, np.arange(26) - 0.5)
    edges = traces.make_staleness_bins(np.array([0] * 500 + [100] * 500 + [2500]))
    assert edges[-1] > 100 and edges[-1] < 105
    assert len(edges) <= 62


@pytest.mark.parametrize(("longest", "scale"), [(40.0, "linear"), (60.0, "log")])
def test_curves_of_very_different_length_get_a_logarithmic_axis(longest, scale):
    ax = Figure().subplots()
    looks.scale_counts(ax, [0.0, 10.0, longest])
    assert ax.get_xscale() == scale


def test_alpha_has_one_panel_per_asynchronous_method(tmp_path):
    _, updates, styles = load(write_run(tmp_path))
    fig = weights.draw_alpha(updates, styles)
    panels = [ax for ax in fig.axes if ax.get_visible()]
    titles = titles_of(panels)
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
    styles = assign_styles(["FedAsync"], {"FedAsync"})
    fig = weights.draw_alpha({"FedAsync": arrays}, styles)
    assert fig.axes[0].get_yscale() == scale


def test_running_mean_is_the_mean_of_each_window():
    y = np.arange(60.0) ** 2
    x, mean = points.running_mean(np.arange(1, 61), y)
    np.testing.assert_allclose(mean[7], y[7:10].mean())
    assert x[7] == 9  # the middle of 8, 9, 10
    assert len(x) == len(mean) == 58


def test_without_asynchronous_methods_only_accuracy_is_drawn(tmp_path):
    run_dir = write_run(tmp_path, {"FedAvg": None, "SGD": None})
    assert [path.name for path in plotting.draw_run(run_dir)] == ["accuracy.png"]


# ---- pictures of the fleet ----


def test_a_whole_folder_gives_all_pictures(tmp_path):
    paths = plotting.draw_run(write_fleet(write_run(tmp_path)))
    fleet = ["lost", "timeline", "participation", "labels"]
    assert [path.stem for path in paths] == ARRIVALS + fleet


@pytest.mark.parametrize(
    ("missing", "pictures"),
    [
        ("clients.npz", ["lost", "timeline"]),
        ("*/lost.npz", ["timeline", "participation", "labels"]),
        ("*/timeline.npz", ["lost", "participation", "labels"]),
    ],
)
def test_every_picture_is_drawn_if_its_file_is_there(tmp_path, missing, pictures):
    write_fleet(write_run(tmp_path))
    for path in tmp_path.glob(missing):
        path.unlink()
    assert names_of_pictures(tmp_path) == ARRIVALS + pictures


def test_texts_have_no_labels(tmp_path):
    write_fleet(write_run(tmp_path))
    np.savez(tmp_path / "clients.npz", num_samples=np.arange(5, 105))
    names = names_of_pictures(tmp_path)
    assert "participation" in names and "labels" not in names


def test_the_pair_is_the_first_asynchronous_method_and_the_first_with_rounds(tmp_path):
    order = ["SGD", "FedAvg", "FedAsync hinge(10, 4)", "FedAsync constant"]
    run = contents.read_contents(write_run(tmp_path, {m: METHODS[m] for m in order}))
    assert run.pair == ["FedAsync hinge(10, 4)", "FedAvg"]


def test_timeline_has_a_bar_for_everything_in_the_window():
    arrays = make_timeline()
    (ax,) = timeline.draw_timeline({"FedAsync": arrays}).axes
    # The work of the seventh tasks ends after 33 s and 66 s.
    assert ax.get_xlim() == (0, 49.5)
    assert ax.get_xlabel() == "Simulated time (s)"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["3", "8"]
    assert ax.get_ylim() == (1.5, -0.5)  # the fast client is at the top
    drawn = bars_of(ax)
    assert drawn.keys() == {"download", "work", "upload", "idle"}
    for code, name in enumerate(ACTIVITIES):
        kept = (arrays["activity"] == code) & (arrays["start"] < 49.5)
        rows = np.where(arrays["client"][kept] == 8, 1, 0)
        ends = np.minimum(arrays["end"][kept], 49.5)
        expected = np.stack([rows, arrays["start"][kept], ends], axis=1)
        np.testing.assert_allclose(np.reshape(drawn.get(name, []), (-1, 3)), expected)


def test_timelines_share_a_window_and_rounds_are_marked():
    first = make_timeline()
    second = make_rows_of_activities([(5, 0, 30, "work"), (8, 2.0, 900.0, "lost")])
    rounds = {"FedAvg": np.array([0.0, 40.0, 400.0])}
    fig = timeline.draw_timeline({"FedAsync": first, "FedAvg": second}, rounds)
    upper, lower = fig.axes
    assert titles_of(fig.axes) == ["FedAsync", "FedAvg"]
    assert upper.get_xlim() == lower.get_xlim() == (0, 49.5)
    # Client 8 works for 4 s in the median, client 5 for 30 s.
    assert [tick.get_text() for tick in upper.get_yticklabels()] == ["3", "8"]
    assert [tick.get_text() for tick in lower.get_yticklabels()] == ["8", "5"]
    assert bars_of(lower) == {"work": [(1, 0, 30)], "lost": [(0, 2, 49.5)]}
    upper_lines, (lines,) = (
        [c for c in ax.collections if isinstance(c, LineCollection)]
        for ax in (upper, lower)
    )
    assert not upper_lines
    (path,) = lines.get_paths()
    np.testing.assert_array_equal(path.vertices, [[40, 0], [40, 1]])
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert set(names) >= {"lost", "idle", "round begins"}


def test_the_window_shows_two_rounds_unless_they_are_too_long():
    arrays = {"FedAsync": make_timeline()}  # until 198 s
    for second, end in ((100.0, 110.0), (145.0, 49.5)):
        fig = timeline.draw_timeline(arrays, {"FedAvg": np.array([0, 40.0, second])})
        assert fig.axes[0].get_xlim()[1] == pytest.approx(end)


def test_the_window_is_not_longer_than_the_run():
    arrays = {"FedAsync": make_timeline(num_tasks=5)}
    for rounds in ({}, {"FedAvg": np.array([0.0, 30.0, 60.0])}):
        ax = timeline.draw_timeline(arrays, rounds).axes[0]
        assert ax.get_xlim() == (0, 46)  # when the last work ends


def test_rounds_begin_when_their_first_task_does(tmp_path):
    run = contents.read_contents(write_run(tmp_path))
    number = np.arange(NUM_UPDATES)
    arrays = {"start_version": number // 10 * 10, "start_time": 100.0 - number % 10}
    run = run._replace(updates={"FedAvg": arrays})
    np.testing.assert_array_equal(run.find_rounds("FedAvg"), np.full(200, 91.0))


@pytest.mark.parametrize(
    ("seconds", "label"),
    [(179, "s"), (180, "min"), (10799, "min"), (10800, "h"), (259200, "days")],
)
def test_units_of_time(seconds, label):
    assert choose_unit(seconds).label == f"Simulated time ({label})"


def test_staleness_over_time_has_every_arrival(tmp_path):
    _, updates, styles = load(write_run(tmp_path))
    arrays = updates["FedAsync constant"]
    fig = over_time.draw_staleness_over_time(updates, {}, styles)
    (ax,) = fig.axes
    assert titles_of(fig.axes) == ["All asynchronous methods"]
    assert ax.get_xlabel() == "Simulated time (min)"  # 220 s
    dots = ax.lines[0]
    assert_line(dots, arrays["arrival_time"] / 60, arrays["staleness"])
    assert to_hex(dots.get_color()) == styles["FedAsync constant"].color.lower()
    fig = over_time.draw_staleness_over_time(updates, {}, styles, has_clock=False)
    (ax,) = fig.axes
    assert ax.get_xlabel() == "Server updates"
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), 1 + np.arange(NUM_UPDATES))


def test_a_few_stragglers_do_not_hide_the_others(tmp_path):
    stale = np.where(np.arange(NUM_UPDATES) == 1500, 1400, 3)
    _, updates, styles = load(write_run(tmp_path, staleness=stale))
    (ax,) = over_time.draw_staleness_over_time(updates, {}, styles).axes
    assert ax.get_yscale() == "symlog"


def test_lost_tasks_are_stacked_by_reason_below_the_staleness(tmp_path):
    write_fleet(write_run(tmp_path))
    run = contents.read_contents(tmp_path)
    _, updates, styles = load(tmp_path)
    fig = over_time.draw_staleness_over_time(updates, run.lost, styles)
    ax = fig.axes[1]
    assert ax.get_ylabel() == "Lost tasks\nper 5 s"
    left, failed = ax.containers
    heights, below = heights_of(ax)
    assert [left.get_label(), failed.get_label()] == ["left", "failed"]
    assert heights.sum(axis=1).tolist() == [3, 5]
    times = np.linspace(0, 199, 10)  # the last two are not finished, and not lost
    expected, _ = np.histogram(times[:3], np.arange(0, 221, 5))
    np.testing.assert_array_equal(heights[0], expected)
    np.testing.assert_array_equal(below[1], heights[0])


def test_lost_tasks_have_a_picture_with_a_panel_a_method():
    tasks = {"FedAsync": make_lost(timed_out=4), "FedAvg": make_lost(left=1, late=1200)}
    fig = lost.draw_lost(tasks, {"FedAsync": 200.0, "FedAvg": 1e6})
    assert titles_of(fig.axes) == [
        "FedAsync: 4 timed out",
        "FedAvg: 1 left, 1,200 late",
    ]
    labels = [ax.get_xlabel() for ax in fig.axes]
    assert labels == ["Simulated time (min)", "Simulated time (days)"]


def test_a_run_that_lost_nothing_has_no_panel_for_it(tmp_path):
    write_fleet(write_run(tmp_path))
    for path in tmp_path.glob("*/lost.npz"):
        np.savez(path, **make_lost(unfinished=9))
    assert "lost" not in names_of_pictures(tmp_path)
    assert contents.read_contents(tmp_path).lost == {}


def test_participation_has_a_dot_for_every_client():
    sizes = np.arange(100, 300)
    counts = np.arange(200) % 7
    fig = participation.draw_participation(sizes, {"FedAsync": counts, "FedAvg": sizes})
    first, second = fig.axes
    assert titles_of(fig.axes) == ["FedAsync", "FedAvg"]
    np.testing.assert_array_equal(first.lines[0].get_xdata(), sizes)
    moved = np.asarray(first.lines[0].get_ydata()) - counts
    assert 0 < np.abs(moved).max() < 0.5  # small numbers are spread
    np.testing.assert_array_equal(second.lines[0].get_ydata(), sizes)
    assert first.get_xscale() == "linear"
    fig = participation.draw_participation(sizes**3, {"FedAsync": counts})
    assert fig.axes[0].get_xscale() == "log"


def test_arrivals_are_counted_of_every_client(tmp_path):
    run = contents.read_contents(write_run(tmp_path))
    counts = run.count_arrivals("FedAvg", 102)
    np.testing.assert_array_equal(counts, [20] * 100 + [0, 0])


def test_means_are_of_clients_of_one_size():
    sizes = np.repeat([10, 40], 50)
    counts = np.concatenate([np.arange(50), np.full(50, 7)])
    x, mean = points.mean_by_size(sizes, counts)
    np.testing.assert_allclose(x, [10, 40])
    np.testing.assert_allclose(mean, [24.5, 7])
    x, mean = points.mean_by_size(np.arange(1000), np.arange(1000))
    assert len(x) == 10
    np.testing.assert_allclose(x, mean)


def test_a_huge_fleet_is_counted():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, 30_000)
    fig = participation.draw_participation(rng.poisson(50, 30_000), {"FedAvg": counts})
    ax = fig.axes[0]
    assert [line.get_label() for line in ax.lines] == ["mean"]
    (cells,) = ax.collections
    assert np.ma.sum(np.ma.asarray(cells.get_array())) == 30_000


def test_label_bars_are_as_long_as_the_counts():
    counts = np.array([[1, 5, 0], [9, 0, 3], [0, 2, 6], [4, 1, 1]])
    ax = labels.draw_labels(counts).axes[0]
    order = [1, 3, 0, 2]  # by the commonest label, then by size
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [*map(str, order)]
    boxes = boxes_of(ax)
    assert [*boxes] == ["0", "1", "2"]
    ends = np.cumsum(counts[order], axis=1)
    for label, box in boxes.items():
        np.testing.assert_array_equal(box[:, 3], ends[:, int(label)])
        below = ends[:, int(label)] - counts[order, int(label)]
        np.testing.assert_array_equal(box[:, 1], below)


def test_twenty_labels_are_told_apart():
    ax = labels.draw_labels(np.ones((3, 20), int)).axes[0]
    looks_of = {(str(c.get_facecolor()), c.get_hatch()) for c in ax.collections}
    assert len(looks_of) == 20


def test_many_labels_are_a_map_of_shares():
    counts = np.eye(30, dtype=int) * 9 + 1
    counts[4] = 0  # a client without samples
    image = labels.draw_labels(counts).axes[0].images[0]
    order = labels.order_clients(counts)
    totals = np.maximum(counts.sum(axis=1), 1)[order]
    shares = np.asarray(image.get_array())
    np.testing.assert_allclose(shares, counts[order].T / totals)


def test_of_many_clients_some_are_drawn():
    rng = np.random.default_rng(0)
    ax = labels.draw_labels(rng.integers(0, 9, (1001, 10))).axes[0]
    shown = [tick.get_text() for tick in ax.get_xticklabels()]
    assert len(set(shown)) == len(shown) == 48
    assert ax.get_title(loc="left") == "48 of 1,001 clients"


# ---- comparison of runs ----


def write_runs(folder):
    few = {m: METHODS[m] for m in ("FedAsync constant", "FedAvg")}
    return [write_run(folder / "all"), write_run(folder / "few", few)]


def test_compared_runs_have_the_same_scales_and_styles(tmp_path):
    runs = {path.name: contents.read_contents(path) for path in write_runs(tmp_path)}
    fig = compare.draw_comparison(runs)
    assert titles_of(fig.axes) == ["all", "few", "FedAsync constant", "FedAvg"]
    assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in fig.axes}) == 1
    looks_of = [
        {line.get_label(): line.get_color() for line in ax.lines} for ax in fig.axes
    ]
    assert list(looks_of[0]) == list(METHODS)
    assert looks_of[1].items() <= looks_of[0].items()
    assert [list(each) for each in looks_of[2:]] == [["all", "few"]] * 2
    rows = runs["few"].rows["FedAsync constant"]
    times, scores = zip(
        *((row["virtual_time"], row["test_accuracy"]) for row in rows), strict=True
    )
    assert_line(fig.axes[1].lines[0], times, scores)
    assert_line(fig.axes[2].lines[1], times, scores)
    assert fig.axes[0].get_xlabel() == "Simulated time (s)"
    assert fig.axes[0].get_xscale() == "log"  # 220 s and an hour


def test_compared_curves_of_one_length_have_a_unit_that_suits(tmp_path):
    methods = {"FedAsync constant": METHODS["FedAsync constant"]}
    run = contents.read_contents(write_run(tmp_path, methods))
    fig = compare.draw_comparison({"a": run, "b": run})
    assert titles_of(fig.axes) == ["a", "b", "FedAsync constant"]
    assert fig.axes[0].get_xlabel() == "Simulated time (min)"
    end = run.rows["FedAsync constant"][-1]["virtual_time"]
    assert np.asarray(fig.axes[0].lines[0].get_xdata())[-1] == pytest.approx(end / 60)


def test_runs_without_a_clock_are_compared_by_gradients(tmp_path):
    path = write_run(tmp_path, {"FedAsync constant": METHODS["FedAsync constant"]})
    run = contents.read_contents(path)
    timeless = {
        m: [{**row, "virtual_time": None, "test_perplexity": 9.0} for row in rows]
        for m, rows in run.rows.items()
    }
    fig = compare.draw_comparison({"a": run, "b": run._replace(rows=timeless)})
    assert fig.axes[0].get_xlabel() == "Gradients"
    assert fig.axes[0].get_ylabel() == "Test accuracy"  # not all have a perplexity


def test_language_models_are_compared_by_perplexity(tmp_path):
    run = contents.read_contents(write_run(tmp_path, {"FedAvg": None}))
    rows = [{**row, "test_perplexity": 100.0} for row in run.rows["FedAvg"]]
    fig = compare.draw_comparison({"a": run._replace(rows={"FedAvg": rows})})
    (ax,) = fig.axes  # one run has nothing to be laid over
    assert (ax.get_ylabel(), ax.get_yscale()) == ("Test perplexity", "log")


def test_compared_runs_are_drawn_by_the_script(tmp_path):
    runs = [write_run(tmp_path / name, {"FedAvg": None}) for name in ("a", "b")]
    done = run_script("plot.py", *runs, "--out", tmp_path / "new" / "folder")
    assert done.returncode == 0, done.stderr
    compared = tmp_path / "new" / "folder" / "compare.png"
    pictures = [*(run / "plots" / "accuracy.png" for run in runs), compared]
    assert done.stdout.splitlines() == [f"wrote {path}" for path in pictures]
    assert all(path.is_file() for path in pictures)
    done = run_script("plot.py", runs[0], "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: out is where two runs or more are compared, got one run\n"
    )


def test_a_comparison_is_written_beside_the_pictures_of_the_first_run(tmp_path):
    first, second = write_runs(tmp_path)
    assert plotting.compare_runs([first, second]) == first / "plots" / "compare.png"
    with pytest.raises(
        ValueError, match=r"compare\.png needs a folder that can be made"
    ):
        plotting.compare_runs([first, second], first / "config.json" / "plots")


@pytest.mark.parametrize(
    ("paths", "names"),
    [(["x/a", "y/b/"], ["a", "b"]), (["x/a", "y/a"], ["x/a", "y/a"])],
)
def test_runs_are_named_by_their_folders(paths, names):
    assert contents.name_runs([Path(path) for path in paths]) == names


# ---- reading ----


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = write_run(tmp_path) / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-40])
    rows = read_run.read_metrics(tmp_path)
    assert rows["SGD"][-1]["version"] == NUM_UPDATES - 50
    assert len(plotting.draw_run(tmp_path)) == 4


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = write_run(tmp_path) / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4][:30], *lines[5:]]))
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 5, must be JSON"):
        read_run.read_metrics(tmp_path)


def test_the_later_of_two_lines_of_a_version_holds(tmp_path):
    rows = list(make_rows("SGD", 0))
    rows += [{**rows[3], "test_accuracy": 0.75}]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text)
    read = read_run.read_metrics(tmp_path)["SGD"]
    assert [row["version"] for row in read] == [row["version"] for row in rows[:-1]]
    assert read[3]["test_accuracy"] == 0.75


@pytest.mark.parametrize("text", [None, "", '{"method": "SG'])
def test_a_folder_without_metrics_is_refused_in_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.jsonl.*, got ") as error:
        plotting.draw_run(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "clients.npz",
        "fedasync-constant/updates.npz",
        "fedasync-constant/lost.npz",
        "fedavg/timeline.npz",
    ],
)
def test_an_archive_cut_short_is_refused_in_one_line(tmp_path, name):
    path = write_fleet(write_run(tmp_path)) / name
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=rf"{name} must be an archive of ") as error:
        plotting.draw_run(tmp_path)
    assert "\n" not in str(error.value)


def test_arrivals_of_clients_that_are_not_there_are_refused_in_one_line(tmp_path):
    write_fleet(write_run(tmp_path))
    np.savez(tmp_path / "clients.npz", num_samples=np.ones(90, int))
    with pytest.raises(ValueError, match=r"must have all clients .* got 90") as error:
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
    assert slugify(method) == slug
