"""Tidy tables of runs of several seeds."""

import csv
import json

import pytest

from fedasync_jax.jobs.tables import (
    FinishedRun,
    read_finished,
    select_last,
    tabulate,
    write_table,
)
from fedasync_jax.storage.run_folder import RunFolder

ENDS = ((0.99, 1.1), (0.9, 3.0), (0.95, 2.0))  # accuracy, perplexity of each seed


def _rows(accuracies, step=10, **others):
    return [
        {
            "method": "SGD",
            "gradients": step * i,
            "test_accuracy": value,
            "test_loss": 2.0,
            "train_loss": None if i == 0 else 1.0,
            **others,
        }
        for i, value in enumerate(accuracies)
    ]


def _run(settings, metrics, finished=None):
    return FinishedRun(settings, metrics, metrics if finished is None else finished)


def _find(table, **where):
    (row,) = [r for r in table if all(r[k] == v for k, v in where.items())]
    return row


def test_seeds_of_one_setting_are_one_row():
    table = tabulate(
        [
            _run({"alpha": 0.6}, {"SGD": _rows([0.1, 0.5])}),
            _run({"alpha": 0.9}, {"SGD": _rows([0.1, 0.9])}),
            _run({"alpha": 0.6}, {"SGD": _rows([0.1, 0.7])}),
        ]
    )
    where = ["alpha", "method", "gradients", "virtual_time", "metric"]
    assert list(table[0]) == [*where, "runs", "n", "mean", "sd", "low", "high"]
    assert table[0]["virtual_time"] is None
    row = _find(table, alpha=0.6, gradients=10, metric="test_accuracy")
    assert (row["runs"], row["n"], row["mean"]) == (2, 2, pytest.approx(0.6))
    assert row["sd"] == pytest.approx(0.1 * 2**0.5)
    assert (row["low"], row["high"]) == (0.0, 1.0)  # 0.6 ± 12.7 * 0.1
    single = _find(table, alpha=0.9, gradients=10, metric="test_accuracy")
    assert (single["runs"], single["n"], single["mean"]) == (1, 1, 0.9)
    assert single["sd"] is single["low"] is single["high"] is None


def test_what_is_not_known_does_not_count():
    table = tabulate([_run({}, {"SGD": _rows([0.1, 0.5])})])
    row = _find(table, gradients=0, metric="train_loss")
    assert (row["n"], row["mean"]) == (0, None)
    assert not [r for r in table if r["metric"] == "test_perplexity"]
    runs = [
        _run({}, {"SGD": _rows([0.1], test_perplexity=p)}) for p in (3.0, float("inf"))
    ]
    row = _find(tabulate(runs), gradients=0, metric="test_perplexity")
    assert (row["runs"], row["n"], row["mean"]) == (2, 1, 3.0)


def test_an_interval_goes_no_further_than_the_metric():
    table = tabulate(
        [_run({}, {"SGD": _rows([0.1, a], test_perplexity=p)}) for a, p in ENDS]
    )
    row = _find(table, gradients=10, metric="test_accuracy")
    assert row["high"] == 1.0 and 0 < row["low"] < row["mean"] < 1
    row = _find(table, gradients=10, metric="test_perplexity")
    assert row["low"] == 1.0 and row["high"] > row["mean"] > 1


def test_the_mean_of_the_last_has_no_untrained_model():
    table = tabulate([_run({}, {"SGD": _rows([0.1, 0.5])})])
    (row,) = [r for r in table if r["metric"] == "test_accuracy_last_10"]
    assert row["mean"] == 0.5


def test_a_run_that_ended_early_does_not_count_at_the_end():
    table = tabulate(
        [
            _run({}, {"SGD": _rows([0.1, 0.5, 0.6])}),
            _run({}, {"SGD": _rows([0.1, 0.2])}, finished=()),
        ]
    )
    row = _find(table, gradients=20, metric="test_accuracy_last_10")
    assert (row["runs"], row["n"], row["mean"]) == (2, 1, pytest.approx(0.55))
    row = _find(table, gradients=10, metric="test_accuracy")
    assert (row["n"], row["mean"]) == (2, pytest.approx(0.35))


def test_where_no_run_came_to_its_end_none_counts_there():
    runs = [
        _run({}, {"SGD": _rows([0.1, 0.5])}, finished=()),
        _run({}, {"SGD": _rows([0.1, 0.2, 0.3])}, finished=()),
    ]
    (last,) = select_last(tabulate(runs), "test_accuracy_last_10")
    assert (last["runs"], last["n"], last["mean"]) == (2, 0, None)


def test_seeds_need_not_have_the_same_numbers_of_gradients():
    runs = [
        _run({}, {"A": _rows([0.1, 0.5, accuracy], step, virtual_time=step / 2)})
        for step, accuracy in ((10, 0.6), (11, 0.7), (12, 0.8))
    ]
    runs.append(_run({}, {"A": _rows([0.1, 0.5, 0.6, 0.9], 9, virtual_time=5.5)}))
    table = tabulate(runs)
    accuracies = [row for row in table if row["metric"] == "test_accuracy"]
    assert [row["n"] for row in accuracies] == [4, 4, 1, 4]
    assert [row["gradients"] for row in accuracies] == [0, 10, 18, 23]
    (last,) = select_last(table, "test_accuracy")
    assert last["mean"] == pytest.approx((0.6 + 0.7 + 0.8 + 0.9) / 4)
    assert last["virtual_time"] == 5.5 and last["sd"] > 0
    (last,) = select_last(table, "test_accuracy_last_10")
    assert (last["n"], last["gradients"]) == (4, 23)


def test_a_run_folder_tells_what_came_to_its_end(tmp_path):
    folder = RunFolder(tmp_path / "run", {"settings": {}})
    for method in ("A", "B", "C"):
        for row in _rows([0.1, 0.2]):
            folder.add_metrics({**row, "method": method, "version": row["gradients"]})
    for method, version in (("A", 10), ("B", 0)):  # B has grown since
        about = folder.model_folder(method) / "model.json"
        about.parent.mkdir(parents=True)
        about.write_text(
            json.dumps({"version": version, "leaves": {}, "load_with": {}})
        )
    folder.close()
    run = read_finished(tmp_path / "run", {"alpha": 1})
    assert run.finished == {"A"} and run.settings == {"alpha": 1}
    assert [len(run.metrics[name]) for name in "ABC"] == [2, 2, 2]


def test_the_last_ten_evaluations():
    table = tabulate([_run({}, {"SGD": _rows([9.0, *[i / 10 for i in range(10)]])})])
    row = _find(table, metric="test_accuracy_last_10")
    assert (row["gradients"], row["mean"]) == (100, pytest.approx(0.45))


def test_methods_and_settings_stay_apart():
    runs = [
        _run({"alpha": a}, {m: _rows([0.0, a]) for m in ("A", "B")}) for a in (0.2, 0.4)
    ]
    last = select_last(tabulate(runs), "test_accuracy")
    found = [(row["alpha"], row["method"], row["mean"]) for row in last]
    assert found == [(0.2, "A", 0.2), (0.2, "B", 0.2), (0.4, "A", 0.4), (0.4, "B", 0.4)]
    assert {row["gradients"] for row in last} == {10}


def test_written_as_csv_and_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    settings = {"hidden": (8, 4), "alpha": 0.5}
    table = tabulate([_run(settings, {"SGD": _rows([0.1, 0.5])})])
    files = write_table(tmp_path / "new" / "table", table)
    assert [file.name for file in files] == ["table.csv", "table.parquet"]
    assert {file.name for file in (tmp_path / "new").iterdir()} == {
        ".fedasync.json",
        "table.csv",
        "table.parquet",
    }
    with files[0].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(table)
    assert (lines[0]["hidden"], lines[0]["sd"]) == ("8+4", "")
    back = pyarrow.parquet.read_table(files[1]).to_pylist()
    assert [{**row, "hidden": "8+4"} for row in table] == back
