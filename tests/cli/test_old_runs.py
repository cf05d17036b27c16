"""A run folder that an earlier version left goes on, and comes to the same end."""

import json
import math
import shutil
from pathlib import Path

import pytest
from commands import run_script

from fedasync_jax.experiment.presets import from_json, make_settings
from fedasync_jax.jobs.identity import identify_settings
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.resume import list_changes

OLD = Path(__file__).parent / "old_run"


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_its_settings_are_read_and_nothing_is_lost_or_changed():
    config = read_config(OLD / "run")
    settings = from_json(config["settings"])
    assert list_changes(config, identify_settings(settings)) == {}
    assert settings["hinge_b"] == 6.0 and settings["hidden"] == (8,)
    assert settings == make_settings(
        "digits", "stragglers", **{**config["settings"], "run_dir": settings["run_dir"]}
    )


def test_it_goes_on_to_the_same_end(tmp_path):
    run = shutil.copytree(OLD / "run", tmp_path / "run")
    before = (run / "metrics.jsonl").read_bytes()
    done = run_script("train.py", "--resume", run)
    assert done.returncode == 0, done.stderr
    after = (run / "metrics.jsonl").read_bytes()
    assert after.startswith(before)  # bit for bit: read from checkpoints, not made anew
    rows, expected = (
        read_lines(run / "metrics.jsonl"),
        read_lines(OLD / "expected.jsonl"),
    )
    assert [(r["method"], r["version"]) for r in rows] == [
        (r["method"], r["version"]) for r in expected
    ]
    for row, wanted in zip(rows, expected, strict=True):
        for name, value in wanted.items():
            if isinstance(value, float):  # other processors round otherwise
                assert math.isclose(row[name], value, rel_tol=2e-3, abs_tol=6e-3), name
            else:
                assert row[name] == value, name


@pytest.mark.parametrize("name", ["alpha", "concentration", "task_sigma", "hinge_a"])
def test_other_settings_are_refused_by_name(tmp_path, name):
    run = shutil.copytree(OLD / "run", tmp_path / "run")
    flag = f"--{name.replace('_', '-')}"
    done = run_script("train.py", "--resume", run, flag, 0.125)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {name} must be ")
    assert done.stderr.count("\n") == 1
