"""Jobs: what is told and left behind, what stops them, and how they go on."""

import json
import struct

import jax
import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs import metrics, runner
from fedasync_jax.jobs.callbacks import Callback
from fedasync_jax.jobs.job import run_job
from fedasync_jax.jobs.loggers.protocol import LoggerCallback
from fedasync_jax.jobs.loggers.tensorboard import TensorBoard
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage import read_run
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.checksums import find_versions
from fedasync_jax.storage.run_folder import RunFolder

_JOB = {
    "num_clients": 12,
    "concurrency": 5,
    "clients_per_round": 4,
    "num_updates": 40,
    "eval_every": 10,
}


def _build(methods=("fedasync-polynomial", "sgd"), **changes):
    return build_experiment(make_settings(methods=methods, **{**_JOB, **changes}))


def _open(path, built):
    return RunFolder(path, {"settings": built.settings.to_json()})


def _run(built, path, **kwargs):
    with _open(path, built) as folder:
        return run_job(built, folder, **kwargs)


class Diary(Callback):
    """Writes down what it is told."""

    def __init__(self, break_at=None):
        self.entries = []
        self.again = []
        self.break_at = break_at

    def on_start(self, method):
        self.entries.append(("start", method.name))

    def on_metrics(self, method, row, *, again):
        assert row["method"] == method.name
        self.again.append(again)
        self.entries.append(("metrics", row["version"]))
        if row["version"] == self.break_at:
            raise RuntimeError("my own mistake")

    def on_end(self, outcome):
        self.entries.append(("end", len(outcome.rows)))

    def on_stop(self, method, reason):
        self.entries.append(("stop", reason))


def test_callbacks_are_told_everything_in_order(tmp_path):
    diary = Diary()
    results = _run(_build(), tmp_path / "a", callbacks=[diary, Callback()])
    assert [o.method.name for o in results.outcomes] == [
        "FedAsync polynomial(0.5)",
        "SGD",
    ]
    assert diary.entries == [
        ("start", "FedAsync polynomial(0.5)"),
        *(("metrics", version) for version in (0, 10, 20, 30, 40)),
        ("end", 5),
        ("start", "SGD"),
        *(("metrics", version) for version in range(5)),
        ("end", 5),
    ]
    assert results.diverged == []


def test_the_folder_holds_the_results_and_the_models(tmp_path):
    built = _build()
    results = _run(built, tmp_path / "a")
    rows = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert [row["method"] for row in rows] == ["FedAsync polynomial(0.5)", "SGD"]
    for outcome in results.outcomes:
        name = outcome.method.name
        assert read_run.read_metrics(tmp_path / "a")[name] == outcome.rows
        folder = tmp_path / "a" / slugify(name) / "model"
        model = fa.load_model(folder)
        for a, b in zip(
            *map(jax.tree.leaves, (model, outcome.result.state.variables)), strict=True
        ):
            np.testing.assert_array_equal(a, np.asarray(b))
        about = json.loads((folder / "model.json").read_text())
        assert (about["method"], about["metrics"]) == (name, outcome.rows[-1])
        assert about["settings"]["num_updates"] == 40


def test_an_exception_of_a_callback_ends_the_run_which_can_go_on(tmp_path):
    built = _build(checkpoint_every=1)
    with pytest.raises(RuntimeError, match="my own mistake"):
        _run(built, tmp_path / "a", callbacks=[Diary(break_at=30)])
    diary = Diary()
    _run(built, tmp_path / "a", callbacks=[diary])
    told = diary.again.index(False)
    assert told >= 1 and not any(diary.again[told:])
    _run(built, tmp_path / "b")
    a, b = (tmp_path / name / "metrics.jsonl" for name in "ab")
    assert a.read_text() == b.read_text()


# What stops a method


def _run_bad(path, **changes):
    """Run FedAsync with a bound that nothing keeps, and SGD, which has none."""
    diary = Diary()
    built = _build(stop_after_rejected=15, max_update_norm=1e-9, **changes)
    results = _run(built, path, callbacks=[diary])
    return results, diary, read_run.read_metrics(path)


def test_a_method_whose_arrivals_are_all_rejected_stops_and_the_others_run(tmp_path):
    results, diary, rows = _run_bad(tmp_path / "a")
    (line,) = results.diverged
    assert line == (
        "FedAsync polynomial(0.5) stopped: the last 15 arrivals or more before version "
        "20 were all rejected, as they were not finite or farther than 1e-09 from "
        "their start"
    )
    assert ("stop", line) in diary.entries
    (sgd,) = results.outcomes
    assert (sgd.method.name, sgd.rows[-1]["rejected"]) == ("SGD", 0)
    mine = rows["FedAsync polynomial(0.5)"]
    assert [row["rejected"] for row in mine] == [row["version"] for row in mine]
    assert mine[-1]["version"] == 30
    checkpoints = tmp_path / "a" / "fedasync-polynomial-0-5" / "checkpoints"
    assert 30 <= max(find_versions(checkpoints)) < 40


class Rows(Callback):
    """Collects the metrics."""

    def __init__(self, rows):
        self.rows = rows

    def on_metrics(self, method, row, *, again):
        self.rows.append(row)


class AfterEveryWave(Checkpoints):
    """Each of them makes the host fetch evaluations earlier than it would."""

    def is_due(self, version):
        return True


def test_where_it_stops_does_not_depend_on_checkpoints(tmp_path):
    built = _build(stop_after_rejected=15, max_update_norm=1e-9)
    told = {Checkpoints: [], AfterEveryWave: []}
    for kind, rows in told.items():
        with kind(tmp_path / kind.__name__, every=10_000) as checkpoints:
            with pytest.raises(runner.Diverged):
                runner.run_method(
                    built,
                    built.methods[0],
                    checkpoints=checkpoints,
                    callback=Rows(rows),
                )
    assert told[Checkpoints] == told[AfterEveryWave]
    assert told[Checkpoints][-1]["version"] == 30


def test_it_does_not_go_on(tmp_path):
    first = _run_bad(tmp_path / "a")
    folder = tmp_path / "a" / "fedasync-polynomial-0-5" / "checkpoints"
    versions = find_versions(folder)
    again = _run_bad(tmp_path / "a")
    assert again[0].diverged == first[0].diverged and again[2] == first[2]
    assert find_versions(folder) == versions


def test_without_a_limit_it_runs_to_its_end(tmp_path):
    built = _build(
        stop_after_rejected=None, step_size=1e30, methods=("fedasync-hinge",)
    )
    results = _run(built, tmp_path / "a")
    assert results.outcomes[0].rows[-1]["rejected"] == 40


def test_one_good_arrival_is_enough(tmp_path):
    """Rejected in a row are counted over evaluations, from the last that was mixed."""
    built = _build(methods=("fedasync-constant",), eval_every=5)
    outcome = runner.run_method(built, built.methods[0])
    start, end = np.full(40, 0.0), outcome.result.updates
    log = metrics.MetricsLog(built.methods[0], step_size=1.0, max_rejected=7)
    applied = np.ones(40, bool)
    applied[[3, 4, 5, 6, 7, 8, 20, 21, 22, 23, 24, 25, 26]] = False
    for evaluation in outcome.result.evaluations:
        rows = slice(max(evaluation.version - 5, 0), evaluation.version)
        log.add(
            evaluation, fa.engine.Updates(end.alpha[rows], applied[rows], start[rows])
        )
        assert log.diverged_at is None or evaluation.version >= 27
    assert log.diverged_at is None  # 26 is the seventh, but 27 to 29 are mixed
    applied[27:30] = False
    log = metrics.MetricsLog(built.methods[0], step_size=1.0, max_rejected=7)
    for evaluation in outcome.result.evaluations:
        rows = slice(max(evaluation.version - 5, 0), evaluation.version)
        log.add(
            evaluation, fa.engine.Updates(end.alpha[rows], applied[rows], start[rows])
        )
    assert log.diverged_at == 30


# TensorBoard


def _read_events(folder):
    """Return (tag, step, wall time, value) of every scalar, by the format of events."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (path,) = folder.iterdir()
    content, place, scalars = path.read_bytes(), 0, []
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        event = event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
        place += length + 16
        for value in event.summary.value:
            entry = value.tag, event.step, event.wall_time, value.simple_value
            scalars.append(entry)
    return scalars


def told(logger):
    return LoggerCallback(logger, pytest.fail, settings={})


def test_tensorboard_has_every_number_once_also_of_a_run_that_goes_on(tmp_path):
    pytest.importorskip("tensorboardX")
    built = _build(checkpoint_every=1)
    events = tmp_path / "a" / "tensorboard"
    with pytest.raises(RuntimeError):
        watchers = [told(TensorBoard(events)), Diary(break_at=20)]
        _run(built, tmp_path / "a", callbacks=watchers)
    results = _run(built, tmp_path / "a", callbacks=[told(TensorBoard(events))])
    for outcome in results.outcomes:
        found = _read_events(events / slugify(outcome.method.name))
        expected = [
            (name, row["version"], row["virtual_time"], pytest.approx(value))
            for row in outcome.rows
            for name, value in row.items()
            if name not in ("method", "version", "updates") and value is not None
        ]
        assert found == expected
