"""The measurements of an accelerator: tried small, gone on with, told."""

import json
import sys

import pytest

from benchmarks.accelerator import command
from benchmarks.accelerator.points import HALF, Point, list_points
from benchmarks.accelerator.tables import (
    BEGIN,
    END,
    advise,
    count_done,
    put_into,
    write_section,
)
from fedasync_jax.jobs.machine import describe_hardware
from fedasync_jax.jobs.versions import describe_versions

WIDE = {
    "mlp": (512, 3000.0, 1000.0),
    "cnn": (64, 50.0, 100.0),
}


def make_results():
    points = {}
    for workload, (width, product, scan) in WIDE.items():
        for mixing, rate in (("product", product), ("scan", scan)):
            point = Point(kind="width", workload=workload, width=width, mixing=mixing)
            points[point.name] = {"updates_per_s": rate}
    points[Point(kind="width", workload="cnn", width=512).name] = {
        "failed": "no memory",
        "error": "RESOURCE_EXHAUSTED",
    }
    xla = Point(kind="width", workload="cnn", width=64, convolution="xla")
    points[xla.name] = {"updates_per_s": 25.0}
    for runs, together in ((1, 10.0), (8, 70.0), (64, 60.0)):
        point = Point(kind="runs", workload="mlp", runs=runs)
        points[point.name] = {
            "one_by_one": 10.0,
            "together": together,
            "ratio": together / 10,
        }
    return {
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "tiny": True,
        "products": {"default": 2e12},
        "points": points,
    }


def run(monkeypatch, capsys, *args):
    monkeypatch.setattr(sys, "argv", ["accelerator.py", *map(str, args)])
    command.main()
    return capsys.readouterr().out


def test_every_point_once_and_the_widest_first():
    points = list_points()
    assert len({point.name for point in points}) == len(points)
    assert {point.workload for point in points[:3]} == {"mlp", "cnn", "lstm"}
    assert {point.width for point in points[:3]} == {512}
    widths = {point.width for point in points if point.kind == "width"}
    assert widths == {1, 8, 32, 64, 128, 256, 512}
    assert {point.runs for point in points if point.kind == "runs"} == {
        2**i for i in range(7)
    }
    assert any(point.precision == HALF for point in points)


def test_what_follows_is_said_with_its_ratio():
    lines = list(advise(make_results()["points"]))
    assert any("mixing, mlp, width 512: the product is 3.00x" in x for x in lines)
    assert any("mixing, cnn, width 64: the product is 0.50x" in x for x in lines)
    (line,) = (line for line in lines if line.startswith("mixing, cnn"))
    assert "so the scan" in line
    assert any("patches are 2.00x of XLA's, so patches" in line for line in lines)
    assert any(line.startswith("runs side by side, mlp: 8") for line in lines)


def test_tables_hold_every_number_and_what_failed():
    section = write_section(make_results())
    for cell in ("3,000", "1,000", "no memory", "| 8 | 10 | 70 | 7.00x |", "| 2 |"):
        assert cell in section
    page = put_into(f"# Title\n{BEGIN}\nold\n{END}\nrest\n", section)
    assert "old" not in page and page.startswith("# Title") and "\nrest\n" in page
    assert put_into(page, section) == page
    with pytest.raises(ValueError, match=r"^docs must have the lines"):
        put_into("# Title\n", section)


def test_it_measures_keeps_and_goes_on(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n{BEGIN}\n{END}\n")
    args = ("--tiny", "--limit", 1, "--docs", page, "--no-compile-cache")
    out = run(monkeypatch, capsys, *args, "--out", tmp_path / "out")
    assert "1 of 1 measurements" in out
    path = tmp_path / "out" / "accelerator.json"
    results = json.loads(path.read_text())
    (point,) = list_points()[:1]
    numbers = results["points"][point.name]
    assert numbers["updates_per_s"] > 0 and numbers["mean_width"] == point.width
    assert f"{numbers['updates_per_s']:,.4g}" in page.read_text()

    # What is there is not measured again.
    before = path.read_bytes()
    assert " s  " not in run(monkeypatch, capsys, *args, "--out", tmp_path / "out")
    assert path.read_bytes() == before

    # Numbers of another machine are not mixed with those of this one.
    results["hardware"]["cpu_model"] = "another"
    path.write_text(json.dumps(results))
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, capsys, *args, "--out", tmp_path / "out")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out must be a folder of this machine")


def test_done_points_are_counted():
    points = make_results()["points"]
    assert count_done(points, list_points()) == len(points)
