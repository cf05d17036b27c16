"""Sweeps and leaderboards over a real cluster of two workers; one of them is killed."""

import functools
import gc
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from fedasync_jax.cli import sweep as sweep_command
from fedasync_jax.cli.own_parts import import_part
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs import cluster as clusters
from fedasync_jax.jobs import nodes, spread, sweep, tasks
from fedasync_jax.jobs.cluster import ClusterChoice, open_cluster
from fedasync_jax.jobs.tables import read_finished, tabulate, write_table
from fedasync_jax.jobs.worker_process import WorkerSetup
from fedasync_jax.leaderboard.board import TASKS, BoardTask, Cell, find_protocol
from fedasync_jax.leaderboard.entries import (
    PUBLISHED,
    TUNING_SEEDS,
    Contender,
    list_choices,
)
from fedasync_jax.leaderboard.results import read_results
from fedasync_jax.leaderboard.workers import (
    RacePlan,
    TimeIsUp,
    race_on_cluster,
)
from fedasync_jax.storage.lock import lock_folder

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
    pytest.skip(
        "the cluster of two workers needs Linux and two cores", allow_module_level=True
    )

_FLAGS = {
    "num_clients": 12,
    "num_updates": 1200,
    "eval_every": 50,
    "checkpoint_every": 50,
    "clients_per_round": 4,
    "hidden": (4,),
    "schedule": "sampled",
    "max_staleness": 4,
}
_WORDS = [
    word
    for name, value in _FLAGS.items()
    for word in (f"--{name.replace('_', '-')}", str(np.ravel(value)[0]))
]
_SEEDS = (0, 1)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two workers, made on this machine."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        with open_cluster(ClusterChoice("local")) as made:
            yield made
    finally:
        os.sched_setaffinity(0, before)
        with warnings.catch_warnings():
            # Ray does not wait for the processes that it ends.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def place(cluster, tmp_path_factory):
    with nodes.mark_place(tmp_path_factory.mktemp("place")) as place:
        yield place
    assert not Path(place.token).exists()


@pytest.fixture(scope="module")
def whole(cluster, place, tmp_path_factory):
    """A sweep that nothing disturbs: its folder and what was told."""
    out = tmp_path_factory.mktemp("whole")
    told = list(spread.spread_points(cluster, _points(out), WorkerSetup(place)))
    return out, told


def _points(out, methods=("fedasync-hinge",), seeds=_SEEDS, **others):
    return [
        sweep.Point(
            out / f"seed-{seed}",
            make_settings(methods=methods, seed=seed, **{**_FLAGS, **others}),
        )
        for seed in seeds
    ]


def _table(out):
    """Return the bytes of the table that a folder gives."""
    runs = [read_finished(out / f"seed-{seed}", {}) for seed in _SEEDS]
    (path, *_) = write_table(out / "table", tabulate(runs))
    return path.read_bytes()


def _wait_for_checkpoint(point):
    """Wait until a run is on its way, so that it has something to go on from."""
    end = time.monotonic() + 120
    folder = point.path / "fedasync-hinge-10-4" / "checkpoints"
    while time.monotonic() < end:
        if any(folder.glob("[0-9]*.json")):
            return
        time.sleep(0.005)
    raise AssertionError(f"no checkpoint in {folder}")


def _begins(point):
    """Return the versions at which a run has begun or gone on."""
    config = json.loads((point.path / "config.json").read_text())
    return [v for one in config["sittings"] for v in one["begins"].values()]


def test_points_are_spread_over_the_workers(cluster, whole):
    out, told = whole
    assert cluster.count_slots() == 2 and (cluster.cpus, cluster.gpus) == (1, 0)
    begun = [news for news in told if isinstance(news, spread.Begun)]
    assert [len(news.points) for news in begun] == [1, 1]
    assert len({news.process for news in begun} | {os.getpid()}) == 3
    done = {news.point for news in told if isinstance(news, spread.PointDone)}
    assert done == set(_points(out))
    pieces = [news for news in told if isinstance(news, dict)]
    assert [(one["runs"], one["hardware"]["platform"]) for one in pieces] == [
        (1, "cpu")
    ] * 2


def test_a_killed_worker_changes_nothing(cluster, place, whole, tmp_path, capsys):
    for attempt in "abcdefghij":  # on a busy machine the kill may come too late
        points = _points(tmp_path / attempt)
        lost = _run_and_kill_first(points, WorkerSetup(place))
        if lost:
            assert lost == points[:1]
            assert _begins(points[0])[0] == 0 and _begins(points[0])[1] > 0
            assert _begins(points[1]) == [0]
            assert _table(tmp_path / attempt) == _table(whole[0])
            break
    else:
        raise AssertionError("no worker was killed in time")
    assert "raylet" not in capsys.readouterr().out


def _run_and_kill_first(points, setup):
    """Run points, kill the worker of the first; return what was lost by that."""
    lost = []
    with open_cluster(ClusterChoice("auto")) as again:  # that which is connected
        for news in spread.spread_points(again, points, setup):
            if isinstance(news, spread.PointsLost):
                lost += news.points
            elif isinstance(news, spread.Begun) and news.points == points[:1]:
                if not lost:
                    _wait_for_checkpoint(points[0])
                    os.kill(news.process, signal.SIGKILL)
    return lost


def test_the_command_is_interrupted_and_goes_on(
    cluster, whole, tmp_path, monkeypatch, capfd
):
    for attempt in "abcdefghij":  # as above
        out = tmp_path / attempt
        words = ["--methods", "fedasync-hinge", "--seeds", "0", "1", "--ray", "auto"]
        words = ["fedasync sweep", *_WORDS, *words, "--out", str(out)]
        monkeypatch.setattr(sys, "argv", words)
        point = sweep.Point(out / "all" / "seed-0", _points(out)[0].settings)
        said = _interrupt_command(point, capfd)
        if sweep.is_finished(point):
            continue
        assert "runs stopped; repeat the command to continue" in said
        assert "room for 2 workers of 1 CPU" in said
        assert not (out / "table.csv").exists() and not list(out.glob(".cluster-*"))
        sweep_command.main()
        said = capfd.readouterr().out
        assert "runs  " in said and f"wrote {out / 'table.csv'}" in said
        assert _begins(point)[0] == 0 and _begins(point)[-1] > 0
        assert (out / "table.csv").read_bytes() == _table(whole[0])
        assert (out / "pieces.jsonl").read_text().count('"platform": "cpu"') >= 1
        return
    raise AssertionError("no run was interrupted in time")


def _interrupt_command(point, capfd):
    """Run the command, interrupt it on the way of a point; return what it said."""

    def interrupt():
        _wait_for_checkpoint(point)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit) as stop:
        sweep_command.main()
    thread.join()
    assert stop.value.code == 130
    return capfd.readouterr().out


def test_a_point_that_fails_is_named_and_the_others_are_run(cluster, place, tmp_path):
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(b"no archive")
    points = _points(tmp_path, seeds=(0, 1, 2, 3))
    points[1] = points[1]._replace(
        settings=points[1].settings.replace(dataset="npz", data_path=damaged)
    )
    points[2].path.mkdir()
    lock = lock_folder(points[2].path)
    try:
        told = list(spread.spread_points(cluster, points, WorkerSetup(place)))
    finally:
        os.close(lock)
    done = {news.point for news in told if isinstance(news, spread.PointDone)}
    assert done == {points[0], points[3]}
    failed = {n.point: n.why for n in told if isinstance(n, spread.PointFailed)}
    assert set(failed) == {points[1], points[2]}
    assert "damaged.npz" in failed[points[1]]
    assert f"process {os.getpid()}" in failed[points[2]]
    (alone,) = spread.spread_points(cluster, [points[1]], WorkerSetup(place))
    assert isinstance(alone, spread.PointFailed) and "damaged.npz" in alone.why


def test_points_of_one_program_share_a_task_and_are_told_apart(
    cluster, place, tmp_path
):
    few = {"num_updates": 160, "stop_after_rejected": 20}
    points = _points(tmp_path, seeds=(0,), **few)
    points += _points(tmp_path, seeds=(1, 2), hidden=(5,), **few)
    wild = _points(tmp_path, seeds=(3,), hidden=(5,), step_size=3e38, **few)
    told = list(spread.spread_points(cluster, [*points, *wild], WorkerSetup(place)))
    begun = [news.points for news in told if isinstance(news, spread.Begun)]
    assert sorted(map(len, begun)) == [1, 1, 2]
    assert points[:1] in begun
    done = [news for news in told if isinstance(news, spread.PointDone)]
    assert sorted(news.point.path for news in done) == [
        point.path for point in (*points, *wild)
    ]
    (diverged,) = [news for news in done if news.diverged]
    assert diverged.point.path == wild[0].path
    assert "FedAsync hinge(10, 4) stopped" in diverged.diverged[0]


def test_a_folder_of_another_run_is_refused_before_any_begins(
    cluster, place, whole, tmp_path
):
    points = _points(tmp_path)
    shutil.copytree(whole[0] / "seed-0", points[1].path)
    (points[1].path / "summary.json").unlink()
    told = spread.spread_points(cluster, points, WorkerSetup(place))
    with pytest.raises(ValueError, match="seed"):
        next(told)
    assert not points[0].path.exists()


def test_without_the_drivers_disk_folders_come_back(cluster, place, whole, tmp_path):
    apart = place._replace(token=str(tmp_path / "elsewhere"))
    assert nodes.check_nodes(cluster, apart, []) != []
    assert nodes.check_nodes(cluster, place, [tmp_path]) == []
    points = _points(tmp_path)
    note = points[0].path / "my-notes.txt"
    shutil.copytree(whole[0] / "seed-0", points[0].path)
    (points[0].path / "summary.json").unlink()  # so that it is run again
    note.write_text("mine")
    told = list(spread.spread_points(cluster, points, WorkerSetup(apart)))
    assert {n.point for n in told if isinstance(n, spread.PointDone)} == set(points)
    assert note.read_text() == "mine"
    last = "fedasync-hinge-10-4/model/model.safetensors"
    assert Path(last) in _files(points[1])
    twin = _points(whole[0])[1].path
    assert (points[1].path / last).read_bytes() == (twin / last).read_bytes()
    assert _table(tmp_path) == _table(whole[0])
    assert all(map(sweep.is_finished, points))
    assert list(spread.spread_points(cluster, points, WorkerSetup(apart))) == []


def _files(point):
    paths = [path for path in point.path.rglob("*") if path.is_file()]
    return {path.relative_to(point.path) for path in paths}


def test_nodes_of_other_software_or_without_data_are_named(cluster, place, tmp_path):
    with pytest.raises(ValueError, match=r"jax must be 0\.0\.1 on every node .* got "):
        nodes.check_nodes(cluster, place, [], {"jax": "0.0.1"})
    with pytest.raises(ValueError, match=r"no-such must be 1 .* got none on"):
        nodes.check_nodes(cluster, place, [], {"no-such": "1"})
    with pytest.raises(ValueError, match=r"data must be on every node .*there\.npz"):
        nodes.check_nodes(cluster, place, [tmp_path / "there.npz"])


_TINY = """
from fedasync_jax.leaderboard.board import TASKS, BoardTask
TASKS["tiny"] = BoardTask(
    "tiny digits",
    {"step_size": 0.2, "hidden": (4,), "num_updates": 60, "eval_every": 20,
     "num_clients": 20},
    {"IID": {"partition": "iid"}},
    target=0.2,
    in_flight=(5,),
)
"""


def test_a_leaderboard_is_run_once_and_goes_on(cluster, place, tmp_path, monkeypatch):
    (tmp_path / "tiny_task.py").write_text(_TINY)
    monkeypatch.setitem(TASKS, "tiny", _load_tiny())
    load = functools.partial(import_part, str(tmp_path / "tiny_task.py"))
    cell = Cell("tiny", "stragglers", 5, "IID")
    entry = Contender(PUBLISHED, ("delta:step=0.1",))
    path, protocol = tmp_path / "tiny.csv", find_protocol("tiny")
    plan = RacePlan([cell], {"delta": entry}, (0,), path, protocol, None, None)
    setup, lines = WorkerSetup(place, loads=[load]), []
    with pytest.raises(TimeIsUp):
        list(race_on_cluster(cluster, plan._replace(end=1.0), setup))
    assert not path.exists()
    assert [*race_on_cluster(cluster, plan, setup, lines.append)] == [cell]
    (line,) = lines
    assert line.startswith("  tiny, stragglers, 5, IID: on ") and "process " in line
    whole = read_results(path, protocol)
    assert len(whole) == len({ran.key for ran in whole})
    tried = [(choice.factor, s) for choice in list_choices(entry) for s in TUNING_SEEDS]
    assert [(ran.factor, ran.seed) for ran in whole[: len(tried)]] == tried
    assert {ran.seed for ran in whole[len(tried) :]} == {0}

    # What is missing is run again, and nothing else.
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert [*race_on_cluster(cluster, plan, setup)] == [cell]
    again = read_results(path, protocol)
    assert again[:-1] == whole[:-1] and again[-1].key == whole[-1].key
    with pytest.raises(ValueError, match=r"failed: nothing, mobile, 5, IID"):
        other = plan._replace(cells=[Cell("nothing", "mobile", 5, "IID")])
        list(race_on_cluster(cluster, other, setup, lines.append))
    assert lines[-1].startswith("  nothing, mobile, 5, IID: failed, KeyError")


def _load_tiny() -> BoardTask:
    found: dict = {}
    exec(_TINY.replace('TASKS["tiny"] = ', "made = "), found)
    return found["made"]


def test_orders_that_fail_or_always_lose_their_worker_end_alone(cluster):
    def live_or_die(order):  # inside, as workers cannot import a module of tests
        yield "begun"
        if order[0] == "die":
            time.sleep(0.2)  # so that what it said is heard
            os.kill(os.getpid(), signal.SIGKILL)
        if order[0] == "raise":
            raise TypeError("a fault\nof many lines")

    def run(*names):
        return list(
            tasks.run_orders(
                cluster,
                live_or_die,
                [(name, 0) for name in names],
                again=lambda order: (order[0], order[1] + 1),
                at_most_lost=1,
            )
        )

    events = run("live", "raise")
    assert sorted(events) == sorted(
        [
            tasks.Told(("live", 0), "begun"),
            tasks.Told(("raise", 0), "begun"),
            tasks.Failed(("raise", 0), "TypeError: a fault"),
        ]
    )
    events = run("die")
    kinds = [(type(event), event.order[1]) for event in events]
    assert kinds == [
        (tasks.Told, 0),
        (tasks.Lost, 0),
        (tasks.Told, 1),
        (tasks.Failed, 1),
    ]
    assert "lost 2 times" in events[-1][1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ray", "here"], "ray must be local, auto or HOST:PORT"),
        (["--ray", "ray://head:10001"], "ray must be local, auto or HOST:PORT"),
        (["--ray", "auto", "--ray-cpus", "0"], "ray_cpus must be >= 1, got 0"),
        (["--ray", "auto", "--ray-cpus", "x"], "ray_cpus must be a whole number"),
        (["--ray", "auto", "--ray-gpus", "1.5"], "ray_gpus must be in [0, 1) or a"),
        (["--ray", "auto", "--ray-gpus", "-1"], "ray_gpus must be in [0, 1) or a"),
        (["--ray", "auto", "--ray-gpus", "nan"], "ray_gpus must be in [0, 1) or a"),
        (["--ray-cpus", "2"], "ray_cpus must be given with --ray, got 2"),
        (["--ray-gpus", "1"], "ray_gpus must be given with --ray, got 1"),
    ],
)
def test_bad_flags_are_one_line(words, told, capsys):
    with pytest.raises(SystemExit) as error:
        sweep_command.parse_sweep(words)
    said = capsys.readouterr().err
    assert error.value.code == 2 and said.startswith(f"error: {told}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (("auto", 3), r"ray_cpus must be at most the 2 CPUs .* got 3"),
        (("auto", None, 1.0), r"ray_gpus must be at most the 0 GPUs .* got 1"),
    ],
)
def test_more_than_a_node_has_is_refused(cluster, choice, told):
    with (
        pytest.raises(ValueError, match=told),
        open_cluster(ClusterChoice(*choice)),
    ):
        pass


@pytest.mark.parametrize(
    ("gpus", "slots"),
    [(0, 16), (1, 4), (2, 2), (3, 1), (0.4, 8), (0.5, 8), (0.2, 16), (0.3, 12)],
)
def test_shares_of_a_gpu_are_of_one_gpu(gpus, slots):
    node = {"Resources": {"CPU": 16.0, "GPU": 4.0}}
    assert clusters._count_slots(node, 1, gpus) == slots
    no_gpu = {"Resources": {"CPU": 16.0}}
    assert clusters._count_slots(no_gpu, 4, gpus) == (0 if gpus else 4)


@pytest.mark.parametrize("parts", range(1, 17))
def test_as_many_tasks_as_shares_have_room_on_a_gpu(parts):
    node = {"Resources": {"CPU": 64.0, "GPU": 1.0}}
    share = round(1 / parts, 4)  # as one writes it
    fitting = clusters._count_slots(node, 1, share)
    assert fitting == (parts if share * parts <= 1 else parts - 1)


def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    begin = time.monotonic()
    with pytest.raises(ValueError, match=rf"reached from here, got {address} \("):
        clusters._connect(ray, address, None)  # type: ignore[arg-type]
    assert time.monotonic() - begin < 60  # Ray itself tries for a quarter of an hour


def test_without_ray_there_is_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ModuleNotFoundError, match=r'pip install "\.\[ray\]"'),
        open_cluster(ClusterChoice("auto")),
    ):
        pass
