"""Sweeps: many run folders in few programs, each as if it ran alone."""

import json
import shutil

import numpy as np
import pytest

from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs import sweep
from fedasync_jax.jobs.callbacks import Callback
from fedasync_jax.jobs.job import run_job
from fedasync_jax.jobs.runner import Stopped
from fedasync_jax.storage import read_run
from fedasync_jax.storage.run_folder import RunFolder

_SMALL = {
    "num_clients": 12,
    "num_updates": 40,
    "eval_every": 10,
    "checkpoint_every": 1,
    "clients_per_round": 4,
    "hidden": (8,),
    "schedule": "sampled",
    "max_staleness": 4,
}


class _Groups(Callback):
    """Notes who runs with whom."""

    def __init__(self):
        self.names, self.updates, self.retold = [], 0, []
        self._left = 0

    def on_start(self, method):
        if self._left == 0:
            self.names.append([])
        self.names[-1].append(method.name)
        self._left += 1

    def on_wave(self, versions):
        self.updates = sum(versions)

    def on_end(self, outcome):
        self._left -= 1

    def on_stop(self, method, reason):
        self._left -= 1

    def hear(self):
        """Return the arguments by which it is told everything."""
        return {"callbacks": [self], "make_callbacks": self.watch}

    def watch(self, point):
        """Return who notes what is told again of a point."""
        retold = self.retold

        class Watch(Callback):
            def on_metrics(self, method, row, *, again):
                if again:
                    retold.append((point.path.name, row["version"]))

        return [Watch()]


def _points(folder, **axes):
    methods = axes.pop("methods", ("fedasync-hinge",))
    return [
        sweep.Point(
            folder / "-".join(map(str, combination.values())),
            make_settings(methods=methods, **{**_SMALL, **combination}),
        )
        for combination in sweep.make_grid(axes)
    ]


def _run(points, **others):
    return list(sweep.run_points(points, {"made": "by a test"}, **others))


def _rows(path):
    return read_run.read_metrics(path)


def _strip(rows):
    return {
        method: [(row["version"], row["mean_alpha"], row["gradients"]) for row in mine]
        for method, mine in rows.items()
    }


def test_a_grid_has_all_combinations():
    grid = sweep.make_grid({"a": [1, 2], "b": "xyz"})
    assert len(grid) == 6
    assert grid[:2] == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}]
    assert sweep.make_grid({}) == [{}]


def test_every_folder_is_as_if_it_ran_alone(tmp_path):
    methods = ("fedasync-constant", "fedavg", "sgd")
    points = _points(tmp_path, alpha=[0.3, 0.9], seed=[0, 1], methods=methods)
    listener = _Groups()
    done = _run(points, **listener.hear())
    assert sorted(listener.names) == [
        ["FedAsync constant"] * 4,
        ["FedAvg"] * 4,
        ["SGD"] * 4,
    ]
    assert {point.path for point, _ in done} == {point.path for point in points}
    for point, results in done:
        alone = tmp_path / "alone" / point.path.name
        with RunFolder(alone, {"settings": point.settings.to_json()}) as folder:
            expected = run_job(build_experiment(point.settings), folder)
        assert [r["method"] for r in results.summary] == [
            r["method"] for r in expected.summary
        ]
        assert {p.name for p in point.path.iterdir()} == {
            p.name for p in alone.iterdir()
        }
        mine, theirs = _rows(point.path), _rows(alone)
        assert _strip(mine) == _strip(theirs)
        for method, rows in theirs.items():
            losses = [row["test_loss"] for row in mine[method]]
            assert losses == pytest.approx([r["test_loss"] for r in rows], rel=1e-4)
        config = json.loads((point.path / "config.json").read_text())
        assert config["made"] == "by a test"
        assert sweep.is_finished(point)


def test_what_is_finished_is_not_run_again(tmp_path):
    points = _points(tmp_path, seed=[0, 1])
    _run(points)
    listener = _Groups()
    assert _run(points, **listener.hear()) == []
    assert listener.names == []
    more = _points(tmp_path, seed=[0, 1, 2])
    assert [point for point, _ in _run(more, **listener.hear())] == more[2:]
    assert listener.names == [["FedAsync hinge(10, 4)"]]


def test_only_so_many_together(tmp_path):
    listener = _Groups()
    _run(
        _points(tmp_path, seed=[0, 1, 2]),
        together=2,
        callbacks=[listener],
        make_callbacks=listener.watch,
    )
    assert [len(names) for names in listener.names] == [2, 1]
    with pytest.raises(ValueError, match="together must be >= 1, got 0"):
        _run(_points(tmp_path, seed=[7]), together=0)


def test_other_problems_are_run_in_turn(tmp_path):
    points = _points(tmp_path, seed=[0, 1], hidden=[(8,), (6,)])
    listener = _Groups()
    assert len(_run(points, **listener.hear())) == 4
    assert [len(names) for names in listener.names] == [2, 2]


def test_jobs_of_another_problem_are_built_when_those_before_have_run(tmp_path):
    points = _points(tmp_path, seed=[0, 1], hidden=[(8,), (6,)])
    there = []

    class Look(Callback):
        def on_start(self, method):
            there.append(sum(point.path.exists() for point in points))

    _run(points, callbacks=[Look()])
    # Of the second problem the first one is built, which tells that it is another.
    assert there == [3, 3, 4, 4]  # two start together, twice


def test_other_programs_are_run_in_turn(tmp_path):
    points = _points(tmp_path, seed=[0, 1], batch_size=[5, 10])
    listener = _Groups()
    _run(points, **listener.hear())
    assert [len(names) for names in listener.names] == [2, 2]


def test_buffers_of_other_sizes_are_run_in_turn(tmp_path):
    axes = {"trimmed_size": [4, 5], "trimmed_cut": [0.0, 0.25]}
    listener = _Groups()
    done = _run(_points(tmp_path, methods=("trimmed",), **axes), **listener.hear())
    assert [len(results.outcomes) for _, results in done] == [1] * 4
    assert [len(names) for names in listener.names] == [2, 2]


@pytest.mark.parametrize("calls", [0, 3])
def test_stopped_and_gone_on_with_bit_for_bit(tmp_path, calls):
    points = _points(tmp_path / "stopped", seed=[0, 1, 2])
    answers = iter([False] * calls + [True])
    with pytest.raises(Stopped):
        _run(points, should_stop=lambda: next(answers))
    assert not any(map(sweep.is_finished, points))
    listener = _Groups()
    _run(points, **listener.hear())
    assert {name for name, _ in listener.retold} == {"0", "1", "2"}
    whole = _points(tmp_path / "whole", seed=[0, 1, 2])
    _run(whole)
    for one, other in zip(points, whole, strict=True):
        assert _rows(one.path) == _rows(other.path)
        models = [
            (p.path / "fedasync-hinge-10-4" / "model" / "model.safetensors")
            for p in (one, other)
        ]
        assert models[0].read_bytes() == models[1].read_bytes()


def test_more_updates_go_on(tmp_path):
    _run(_points(tmp_path, seed=[0, 1]))
    longer = [
        point._replace(settings=_replace(point, num_updates=60))
        for point in _points(tmp_path, seed=[0, 1])
    ]
    assert not any(map(sweep.is_finished, longer))
    listener = _Groups()
    _run(longer, **listener.hear())
    assert ("0", 30) in listener.retold
    for point in longer:
        (rows,) = _rows(point.path).values()
        assert [row["version"] for row in rows] == [0, 10, 20, 30, 40, 50, 60]
    whole = [point._replace(path=tmp_path / "w" / point.path.name) for point in longer]
    _run(whole)
    for one, other in zip(longer, whole, strict=True):
        (mine,), (theirs,) = _rows(one.path).values(), _rows(other.path).values()
        assert mine[-1]["test_loss"] == pytest.approx(theirs[-1]["test_loss"], rel=1e-4)


def _replace(point, **changes):
    return point.settings.replace(**changes)


def test_a_folder_with_other_settings_is_refused_before_anything_runs(tmp_path):
    _run(_points(tmp_path, seed=[0]))
    (point,) = _points(tmp_path, seed=[0])
    other = sweep.Point(point.path, _replace(point, alpha=0.1))
    points = [*_points(tmp_path, seed=[1]), other]
    listener = _Groups()
    with pytest.raises(ValueError, match=r"alpha must be 0\.6 to go on"):
        _run(points, **listener.hear())
    assert listener.names == [] and not points[0].path.exists()


def test_a_run_that_diverges_stops_alone(tmp_path):
    points = _points(tmp_path, step_size=[0.1, 1e30], stop_after_rejected=[8])
    for expected in (points, points[1:]):  # also when it goes on, and only that one
        done = dict(_run(points))
        assert set(done) == set(expected)
        bad = done[points[1]]
        assert bad.outcomes == [] and len(bad.diverged) == 1
    assert [sweep.is_finished(point) for point in points] == [True, False]


def test_folders_can_be_used_again_afterwards(tmp_path):
    points = _points(tmp_path, seed=[0])
    _run(points)
    shutil.rmtree(points[0].path)
    _run(points)
    with RunFolder(points[0].path, {"settings": points[0].settings.to_json()}):
        pass


def test_models_of_the_same_weights_are_the_same_bits(tmp_path):
    methods = ["fedasync-constant", "fedasync-hinge"]
    points = [
        sweep.Point(tmp_path / m, make_settings(methods=(m,), **_SMALL))
        for m in methods
    ]
    _run(points)
    models = [
        next(p.path.glob("*/model/model.safetensors")).read_bytes() for p in points
    ]
    assert models[0] == models[1]
    losses = [next(iter(_rows(p.path).values())) for p in points]
    for one, other in zip(*losses, strict=True):
        assert np.array_equal(one["test_loss"], other["test_loss"])
