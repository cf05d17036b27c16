"""Loggers: what they are told, that they cannot end a run, and the real services."""

import itertools
import json
import sys
from pathlib import Path

import pytest

import fedasync_jax as fa
from fedasync_jax.jobs.loggers.by_name import LOGGERS, make_loggers
from fedasync_jax.jobs.loggers.identity_file import read_service_id, write_service_id
from fedasync_jax.jobs.loggers.protocol import LoggedRun
from fedasync_jax.jobs.runner import Stopped
from fedasync_jax.jobs.training import run_settings

SMALL = {"num_clients": 8, "clients_per_round": 2, "concurrency": 4, "hidden": (8,)}
SMALL |= {"num_updates": 40, "eval_every": 10, "methods": ("fedavg",)}


class Diary:
    def __init__(self, fail_at=None):
        self.lines, self._fail_at = [], fail_at

    def _write(self, *line):
        self.lines.append(line)
        if line[0] == self._fail_at:
            raise ConnectionError("network\n gone")

    def start(self, run):
        self.run = run
        self._write("start", run.method, run.version)

    def log(self, step, values):
        self._write("log", step, values)

    def finish(self):
        self._write("finish")


def small(**fields):
    return fa.make_settings(**{**SMALL, **fields})


def stop_and_go_on(path, loggers):
    """Run half a run, then the rest, each with a logger of its own."""
    settings = small(run_dir=path, checkpoint_every=1)
    calls = itertools.count()
    with pytest.raises(Stopped):
        run_settings(
            settings,
            run_dir=path,
            loggers=[loggers()],
            should_stop=lambda: next(calls) == 2,
        )
    return fa.train(settings, loggers=[loggers()])


def test_a_logger_is_told_every_number_of_every_line():
    diary = Diary()
    settings = small(methods=("fedavg", "sgd"))
    results = fa.train(settings, loggers=[diary])
    words = [line[0] for line in diary.lines]
    of_sgd = words.count("log") - 5
    expected = ["start", *["log"] * 5, "finish", "start", *["log"] * of_sgd, "finish"]
    assert words == expected
    logged = [line[1:] for line in diary.lines if line[0] == "log"]
    rows = results.metrics()
    assert [step for step, _ in logged] == [row["version"] for row in rows]
    for (_, values), row in zip(logged, rows, strict=True):
        left = {k: v for k, v in row.items() if k not in ("method", "version")}
        assert values == {k: v for k, v in left.items() if v is not None}
    assert diary.run.name == "digits" and diary.run.folder is None
    assert diary.run.settings["num_updates"] == 40


def test_a_run_that_goes_on_tells_what_is_new(tmp_path):
    diaries = []

    def make():
        diaries.append(Diary())
        return diaries[-1]

    results = stop_and_go_on(tmp_path / "run", make)
    first, second = (diary.lines for diary in diaries)
    assert first[0] == ("start", "FedAvg", 0) and first[-1] == ("finish",)
    begins = second[0][2]
    assert 0 < begins < 40 and diaries[1].run.name == "run"
    steps = [line[1] for lines in (first, second) for line in lines if line[0] == "log"]
    assert steps == [row["version"] for row in results.metrics()]


@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_one_that_fails_is_left_out_with_a_line_and_changes_nothing(where):
    expected = fa.train(small()).metrics()
    broken, whole = Diary(fail_at=where), Diary()
    with pytest.warns(UserWarning) as warned:
        results = fa.train(small(), loggers=[broken, whole])
    (line,) = [str(warning.message) for warning in warned]
    assert (
        line == "Diary is told no more, the run goes on: ConnectionError network gone"
    )
    assert broken.lines[-1][0] == where
    assert [line[0] for line in broken.lines].count(where) == 1
    assert len(whole.lines) == 7
    assert results.metrics() == expected


def test_names_are_checked_and_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"^log_to must be one of tensorboard, wand"):
        make_loggers(["tensorbord"], tmp_path)
    for name, package in (("wandb", "wandb"), ("mlflow", "mlflow")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ValueError, match=rf"^log_to {name} needs its package"):
            make_loggers([name], tmp_path)
    assert list(LOGGERS) == ["tensorboard", "wandb", "mlflow"]


def test_names_of_services_are_kept_by_method(tmp_path):
    run = LoggedRun("A b", "r", {}, 3, tmp_path)
    write_service_id(run, "one", "x")
    write_service_id(run, "two", "y")
    assert read_service_id(run, "one") == "x" and read_service_id(run, "two") == "y"
    assert read_service_id(run._replace(method="c"), "one") is None
    assert read_service_id(run._replace(version=0), "one") is None  # it begins anew
    assert read_service_id(run._replace(folder=None), "one") is None
    (tmp_path / "a-b" / "loggers.json").write_text("[]")
    with pytest.raises(ValueError, match=r"loggers\.json must be names by service"):
        read_service_id(run, "one")


# The real services, without a network


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # between its own packages
def test_mlflow_has_one_run_also_of_a_run_that_goes_on(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    from fedasync_jax.jobs.loggers.mlflow_tracking import MLflow

    pytest.importorskip("sqlalchemy")
    where = f"sqlite:///{tmp_path}/tracked.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    results = stop_and_go_on(tmp_path / "run", MLflow)
    client = mlflow.MlflowClient(where)
    experiment = client.get_experiment_by_name("fedasync")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "run FedAvg"
    assert run.data.params["num_updates"] == "40"
    history = client.get_metric_history(run.info.run_id, "test_accuracy")
    found = sorted((metric.step, metric.value) for metric in history)
    assert found == [(r["version"], r["test_accuracy"]) for r in results.metrics()]


def test_wandb_offline_keeps_one_name_also_of_a_run_that_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from fedasync_jax.jobs.loggers.weights_and_biases import WeightsAndBiases

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    stop_and_go_on(tmp_path / "run", WeightsAndBiases)
    files = sorted(Path(tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    ids = json.loads((tmp_path / "run" / "fedavg" / "loggers.json").read_text())
    assert len(files) == 2  # a sitting each, of one run
    assert {path.stem for path in files} == {f"run-{ids['wandb']}"}
    content = [path.read_bytes() for path in files]
    for step, text in ((b"0", content[0]), (b"40", content[1])):
        assert b"test_accuracy" in text and step in text
