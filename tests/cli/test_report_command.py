"""``fedasync report``: what it writes, and what it refuses in one line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD = Path(__file__).parent / "old_run" / "run"


def report(*args, ok=True):
    command = [sys.executable, ROOT / "scripts" / "report.py", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ok, done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return shutil.copytree(OLD, tmp_path_factory.mktemp("report") / "run")


def test_it_writes_the_page_and_writes_it_again(run, tmp_path):
    out = tmp_path / "pages" / "report.html"
    assert report(run, "--out", out).stdout.startswith(f"wrote {out} (")
    assert out.read_text().startswith("<!DOCTYPE html>")
    report(run, run, "--out", out)
    out.write_text("mine")
    line = report(run, "--out", out, ok=False).stderr
    assert line.startswith("error: ") and "another origin" in line
    assert out.read_text() == "mine"


def test_it_needs_no_drawing_library(run):
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        f"sys.argv = ['fedasync report', {str(run)!r}]\n"
        "from fedasync_jax.cli.report import main; main()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (run / "report.html").is_file()


def test_a_sweep_is_sent_to_plot(run):
    line = report(run.parent, ok=False).stderr
    assert line.count("\n") == 1
    assert "got the sweep" in line and "fedasync plot" in line


def test_nothing_and_no_run_are_one_line(tmp_path):
    for args, told in ((), "one run folder or more"), ([tmp_path], "run folders"):
        line = report(*args, ok=False).stderr
        assert line.startswith(f"error: run_dirs must be {told}, got ")
        assert line.count("\n") == 1
