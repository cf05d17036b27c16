"""scripts/sweep.py and scripts/reproduce.py, as a user runs them."""

import csv
import json
import os
import signal
import time

import pytest
from commands import ROOT, run_script, start

from fedasync_jax.storage.ownership import write_owned

METHODS = "methods=fedasync-constant,fedasync-hinge+fedavg"


def _sweep(out, *others, **how):
    small = ["--num-updates", 60, "--eval-every", 20, "--hidden", 8]
    small += ["--max-staleness", 3]  # which is not read
    return run_script("sweep.py", *small, "--out", out, *others, **how)


def _read_table(out):
    with (out / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    grid = [
        "--grid",
        "alpha=0.3,0.9",
        METHODS,
    ]
    stopped = _sweep(out, *grid, "--seeds", 4, 5, "--max-minutes", 1e-9)
    # Without --ray, a Ray that cannot be imported is not missed.
    (out.parent / "ray.py").write_text("raise SystemExit('ray was imported')")
    no_ray = {**os.environ, "PYTHONPATH": str(out.parent)}
    done = _sweep(out, *grid, "--seeds", 4, 5, env=no_ray, may_fork=False)
    assert done.returncode == 0, done.stderr
    return out, stopped, done


def test_stopped_after_a_time_and_gone_on_with(swept):
    out, stopped, done = swept
    assert stopped.returncode == 3
    assert "repeat the command to continue" in stopped.stdout
    note = "note: not read: max_staleness (only for schedule sampled)\n"
    assert stopped.stdout.startswith(note)
    assert "8 to run" in stopped.stdout and "8 to run" in done.stdout
    assert not [line for line in done.stderr.splitlines() if "Error" in line]
    assert (out / "pieces.jsonl").is_file()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_interrupted_at_any_moment_and_gone_on_with(tmp_path, number, code):
    flags = ["--num-updates", 12000, "--eval-every", 500, "--hidden", 8]
    flags += ["--methods", "fedasync-hinge", "--seeds", 1, 2]
    flags += ["--out", tmp_path / "out"]
    files = [tmp_path / "out" / "all" / f"seed-{i}" / "metrics.jsonl" for i in (1, 2)]
    process = start(ROOT / "scripts" / "sweep.py", *flags)
    while process.poll() is None:
        if all(file.is_file() and file.stat().st_size > 700 for file in files):
            break
        time.sleep(0.01)
    process.send_signal(number)
    stopped = process.finish()
    assert stopped.returncode == code
    told = "2 runs stopped; repeat the command to continue" in stopped.stdout
    assert told == (code == 130)
    done = run_script("sweep.py", *flags)
    assert done.returncode == 0, done.stderr
    rows = _read_table(tmp_path / "out")
    accuracies = [row for row in rows if row["metric"] == "test_accuracy"]
    assert [int(r["gradients"]) for r in accuracies] == list(range(0, 60001, 2500))
    assert {row["n"] for row in accuracies} == {"2"}


def test_there_is_a_run_folder_for_every_combination_and_seed(swept):
    out, _, _ = swept
    names = {path.name for path in out.iterdir() if path.is_dir()}
    assert names == {
        f"alpha-{alpha}_methods-{methods}"
        for alpha in ("0.3", "0.9")
        for methods in ("fedasync-constant", "fedasync-hinge+fedavg")
    }
    for name in names:
        for seed in (4, 5):
            config = json.loads((out / name / f"seed-{seed}/config.json").read_text())
            assert config["settings"]["seed"] == seed
            assert f"alpha-{config['settings']['alpha']}" in name


def test_the_table_has_mean_deviation_and_interval(swept):
    out, _, done = swept
    rows = _read_table(out)
    last = [row for row in rows if row["metric"] == "test_accuracy_last_10"]
    assert len(last) == 2 * 3  # alphas, methods
    assert {row["n"] for row in last} == {"2"}
    for row in last:
        low, mean, high = (float(row[name]) for name in ("low", "mean", "high"))
        assert low <= mean <= high
        assert f"{mean:.2%}" in done.stdout
    values = []
    for seed in (4, 5):
        folder = out / "alpha-0.3_methods-fedasync-constant" / f"seed-{seed}"
        summary = json.loads((folder / "summary.json").read_text())
        values.append(summary[0]["test_accuracy_mean"])
    (row,) = [r for r in last if r["alpha"] == "0.3" and r["method"].endswith("nstant")]
    assert float(row["mean"]) == pytest.approx(sum(values) / 2)


def test_the_same_command_runs_nothing_twice(swept):
    out, _, done = swept
    before = (out / "pieces.jsonl").read_text()
    again = _sweep(
        out,
        "--grid",
        "alpha=0.3,0.9",
        METHODS,
        "--seeds",
        4,
        5,
    )
    assert "0 to run" in again.stdout
    assert (out / "pieces.jsonl").read_text() == before
    table = done.stdout[done.stdout.index("alpha ") :]
    assert again.stdout.endswith(table)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grid", "alfa=0.1"], ["grid", "alfa=0.1"]),
        (["--out"], ["--out", "one argument"]),
        (["--grid", "seed=1,2"], ["grid", "seed and run_dir", "seed=1,2"]),
        (["--grid", "alpha"], ["grid", "NAME=VALUE"]),
        (["--grid", "alpha=2"], ["alpha", "(0, 1]", "2"]),
        (["--grid", "alpha=0.5,0.5"], ["grid", "different"]),
        (["--grid", "alpha=0.5", "alpha=0.6"], ["grid", "alpha", "once"]),
        (
            ["--grid", "num-clients=50,30", "clients-per-round=40"],
            ["clients_per_round", "30", "40"],
        ),
        (  # fits together, so that only the other flag is refused
            ["--grid", "num-clients=200", "clients-per-round=150", "--together", "0"],
            ["together", ">= 1", "0"],
        ),
        (["--grid", "num-updates=many"], ["num_updates", "whole number", "many"]),
        (["--seeds", "one"], ["seeds", "one"]),
        (["--seeds"], ["seeds", "none"]),
        (["--together", "0"], ["together", ">= 1", "0"]),
        (["--max-minutes", "-1"], ["max_minutes", "> 0", "-1"]),
        (["--preset", "cifar"], ["preset", "cifar"]),
        (["--bogus"], ["--bogus"]),
        (["--grid", "alpah=1,2"], ["grid", "alpah=1,2 (nearest: alpha)"]),
        (["--seed", "3"], ["seed must not be given", "--seeds"]),
        (["--run-dir=here"], ["run_dir must not be given", "--out"]),
    ],
)
def test_bad_flags_of_sweep_are_one_line(tmp_path, arguments, words):
    done = _sweep(tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out", "x" * 300):
        done = _sweep(out, "--grid", "alpha=0.3", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: out must be a folder"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--figure"], ["figure must be one of all, why, ", "got none"]),
        (["--seeds", "1", "1"], ["seeds must be one or more different", "got 1 1"]),
        (["--figure", "cifar"], ["figure", "cifar-sweep", "'cifar'"]),
        (["--scale", "tiny"], ["scale", "paper", "'tiny'"]),
        (["--seeds", "x"], ["seeds", "x"]),
        (["--together", "0"], ["together", "> 0", "0"]),
        (["--scale", "small", "--figure", "wikitext-4"], ["text_path", "input.txt"]),
        (["--no-run"], ["out must hold runs", "out/paper"]),
    ],
)
def test_bad_flags_of_reproduce_are_one_line(tmp_path, arguments, words):
    done = run_script("reproduce.py", "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("text", ['{"a":', '{"a": 1}', "[]"])
def test_a_damaged_note_of_the_work_is_one_line(tmp_path, text):
    (tmp_path / "micro").mkdir()
    path = tmp_path / "micro" / "pieces.jsonl"
    path.write_text(text)
    flags = ["--scale", "micro", "--no-run", "--out", tmp_path]
    done = run_script("reproduce.py", *flags)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {path} must have lines that this command")


def test_results_of_the_users_own_stay(tmp_path):
    path = tmp_path / "micro" / "results.json"
    write_owned(path, b"ours")
    path.write_text("mine")
    flags = ["--scale", "micro", "--no-run", "--out", tmp_path]
    done = run_script("reproduce.py", *flags)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{path} must be new or as this program wrote it" in done.stderr
    assert path.read_text() == "mine"


def _write_play(folder):
    folder.mkdir()
    letters = "ABCDEFGHIJ"
    speech = "Hark, hark! " * 90
    parts = [f"LORD {a}{b}:\n{speech}\n" for a in letters for b in letters]
    (folder / "input.txt").write_text("\n".join(parts))
    return folder


def test_a_figure_from_runs_to_the_page(tmp_path):
    flags = ["--scale", "small", "--figure", "wikitext-4", "--num-updates", 3]
    flags += ["--text-path", _write_play(tmp_path / "play")]
    kept, flags = flags, [*flags, "--seeds", 1]
    out, docs = tmp_path / "runs", tmp_path / "docs"
    done = run_script("reproduce.py", *flags, "--out", out)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr)
    assert "8 to run" in done.stdout
    for number in range(1, 7):
        assert f"text {number}. " in done.stdout
    assert (out / "small" / "wikitext-4.png").stat().st_size > 10_000
    before = (out / "small" / "results.json").read_text()
    assert "results.json" in (out / "small" / ".fedasync.json").read_text()
    flags = ["--scale", "small", "--seeds", 1, "--no-run"]
    told = run_script("reproduce.py", *flags, "--out", out)
    assert told.returncode == 0, told.stderr
    assert (out / "small" / "results.json").read_text() == before
    written = run_script("write_reproduction.py", out / "small", "--out", docs)
    assert written.returncode == 0, written.stderr
    page = (docs / "reproduction.md").read_text()
    assert "reproduction/small/wikitext-4.png" in page
    assert (docs / "reproduction" / "small" / "wikitext-4.png").is_file()
    assert str(tmp_path) not in (docs / "reproduction" / "small.json").read_text()
    again = run_script("write_reproduction.py", "--out", docs)
    assert again.returncode == 0
    assert (docs / "reproduction.md").read_text() == page
    _add_a_seed(flags_of=[*kept, "--seeds", 2], out=tmp_path / "more", docs=docs)


def _add_a_seed(flags_of, out, docs):
    """See runs of another seed, from a folder of their own, join the page."""
    file = docs / "reproduction" / "small.json"
    known = json.loads(file.read_text())["runs"]
    done = run_script("reproduce.py", *flags_of, "--out", out)
    assert done.returncode == 0, done.stderr
    done = run_script("write_reproduction.py", out / "small", "--out", docs)
    assert done.returncode == 0, done.stderr
    runs = json.loads(file.read_text())["runs"]
    assert runs[: len(known)] == known
    assert [run["seed"] for run in runs[len(known) :]] == [2] * 8
    done = run_script(
        "write_reproduction.py", out / "small", "--out", docs, "--replace"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(file.read_text())["runs"] == runs[len(known) :]


def test_a_page_without_results_is_refused(tmp_path):
    done = run_script("write_reproduction.py", "--out", tmp_path / "docs")
    assert done.returncode == 2 and "results" in done.stderr
    (tmp_path / "results.json").write_text('{"scale": "small"}')
    done = run_script("write_reproduction.py", tmp_path, "--out", tmp_path / "docs")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    file = tmp_path / "results.json"
    done = run_script("write_reproduction.py", "--out", file)
    assert done.returncode == 2
    assert done.stderr == f"error: out must be a folder, got the file {file}\n"
