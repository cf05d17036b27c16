"""Tidy tables of runs of several seeds."""

import csv

import pytest

from fedasync_jax.tables import select_last, tabulate, write_table


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


def _find(table, **where):
    (row,) = [r for r in table if all(r[k] == v for k, v in where.items())]
    return row


def test_seeds_of_one_setting_are_one_row():
    table = tabulate(
        [
            ({"alpha": 0.6}, {"SGD": _rows([0.1, 0.5])}),
            ({"alpha": 0.9}, {"SGD": _rows([0.1, 0.9])}),
            ({"alpha": 0.6}, {"SGD": _rows([0.1, 0.7])}),
        ]
    )
    names = ["alpha", "method", "gradients", "metric", "runs", "n", "mean", "sd"]
    assert list(table[0]) == [*names, "low", "high"]
    row = _find(table, alpha=0.6, gradients=10, metric="test_accuracy")
    assert (row["runs"], row["n"], row["mean"]) == (2, 2, pytest.approx(0.6))
    assert row["sd"] == pytest.approx(0.1 * 2**0.5)
    assert row["high"] - row["mean"] == pytest.approx(12.7062 * 0.1, rel=1e-4)
    single = _find(table, alpha=0.9, gradients=10, metric="test_accuracy")
    assert (single["runs"], single["n"], single["mean"]) == (1, 1, 0.9)
    assert single["sd"] is single["low"] is single["high"] is None


def test_what_is_not_known_does_not_count():
    table = tabulate([({}, {"SGD": _rows([0.1, 0.5])})])
    row = _find(table, gradients=0, metric="train_loss")
    assert (row["n"], row["mean"]) == (0, None)
    assert not [r for r in table if r["metric"] == "test_perplexity"]
    runs = [({}, {"SGD": _rows([0.1], test_perplexity=p)}) for p in (3.0, float("inf"))]
    row = _find(tabulate(runs), gradients=0, metric="test_perplexity")
    assert (row["runs"], row["n"], row["mean"]) == (2, 1, 3.0)


def test_a_run_that_ended_early_does_not_count_at_the_end():
    table = tabulate(
        [
            ({}, {"SGD": _rows([0.1, 0.5, 0.6])}),
            ({}, {"SGD": _rows([0.1, 0.2])}),
        ]
    )
    row = _find(table, gradients=20, metric="test_accuracy_last_10")
    assert (row["runs"], row["n"], row["mean"]) == (2, 1, pytest.approx(0.4))
    row = _find(table, gradients=10, metric="test_accuracy")
    assert (row["n"], row["mean"]) == (2, pytest.approx(0.35))


def test_the_last_ten_evaluations():
    table = tabulate([({}, {"SGD": _rows([9.0, *[i / 10 for i in range(10)]])})])
    row = _find(table, metric="test_accuracy_last_10")
    assert (row["gradients"], row["mean"]) == (100, pytest.approx(0.45))


def test_methods_and_settings_stay_apart():
    runs = [
        ({"alpha": a}, {m: _rows([0.0, a]) for m in ("A", "B")}) for a in (0.2, 0.4)
    ]
    last = select_last(tabulate(runs), "test_accuracy")
    found = [(row["alpha"], row["method"], row["mean"]) for row in last]
    assert found == [(0.2, "A", 0.2), (0.2, "B", 0.2), (0.4, "A", 0.4), (0.4, "B", 0.4)]
    assert {row["gradients"] for row in last} == {10}


def test_written_as_csv_and_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    settings = {"hidden": (8, 4), "alpha": 0.5}
    table = tabulate([(settings, {"SGD": _rows([0.1, 0.5])})])
    files = write_table(tmp_path / "new" / "table", table)
    assert [file.name for file in files] == ["table.csv", "table.parquet"]
    assert {file.name for file in (tmp_path / "new").iterdir()} == {
        "table.csv",
        "table.parquet",
    }
    with files[0].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(table)
    assert (lines[0]["hidden"], lines[0]["sd"]) == ("8+4", "")
    back = pyarrow.parquet.read_table(files[1]).to_pylist()
    assert [{**row, "hidden": "8+4"} for row in table] == back
