"""The main job, end to end, as a user runs it."""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, run_code, run_script, start

from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs import report, runner
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage import read_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "run"
    methods = [f"fedasync-{fn}" for fn in ("constant", "polynomial", "hinge")]
    methods += ["fedavg", "fedprox", "sgd"]
    done = run_script(
        "train.py", "--num-updates", 200, "--run-dir", path, "--methods", *methods
    )
    assert done.returncode == 0, done.stderr
    return path, done.stdout


def test_the_run_folder_is_complete(finished):
    path, _ = finished
    names = {p.name for p in path.iterdir()}
    files = {"config.json", "metrics.jsonl", "summary.json", "clients.npz", "plots"}
    assert files <= names
    pictures = {p.stem for p in (path / "plots").glob("*.png")}
    assert pictures == {
        "accuracy",
        "staleness",
        "alpha",
        "staleness_over_time",
        "timeline",
        "participation",
        "labels",
        "clients",
    }
    for method in read_run.read_metrics(path):
        found = {p.name for p in (path / slugify(method)).iterdir()}
        timeline = set() if method == "SGD" else {"timeline.npz"}
        arrays = {"updates.npz", "lost.npz", "clients.npz"}
        written = {"method.json", "model", "checkpoints"} | arrays
        assert found == written | timeline
    config = json.loads((path / "config.json").read_text())
    assert config["settings"]["num_updates"] == 200
    assert (config["preset"], config["fleet"]) == ("digits", None)
    assert {"python", "jax", "jaxlib", "flax", "optax"} <= set(config["versions"])
    assert len(config["devices"]) == 3
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT
    )
    if revision.returncode == 0:
        assert config["revision"].startswith(revision.stdout.strip())


def test_a_log_file_has_a_line_per_method_that_says_how_it_went(finished):
    _, output = finished
    lines = [line for line in output.splitlines() if " mixed 200" in line]
    assert len(lines) == 5  # all but SGD, which mixes nothing
    assert lines[1].startswith("FedAsync polynomial(0.5)  200/200  accuracy ")
    assert "  t " in lines[1] and "  d " in lines[1]
    assert "\x1b" not in output and "\r" not in output


def test_the_summary_says_what_a_run_is_and_how_far_it_came(finished):
    path, _ = finished
    done = run_script("train.py", "--summary", path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{path}: preset digits, digits"
    assert lines[1].endswith(", num_updates 200")
    assert " jax " in lines[2] and "revision " in lines[2]
    assert lines[4] == "  now: nobody writes to it"
    methods = lines[5:]
    assert len(methods) == 6  # and no word of going on
    assert methods[0].startswith(
        "  FedAsync constant: finished, 200 of 200 updates, accuracy "
    )
    assert "checkpoints up to 200, the best of " in methods[0]
    assert methods[5].startswith("  SGD: finished, version 4, accuracy ")


def test_the_archives_hold_clients_tasks_and_what_clients_did(finished):
    path, _ = finished
    clients = read_run.read_clients(path)
    assert clients is not None
    assert clients["num_samples"].shape == (100,)
    np.testing.assert_array_equal(
        clients["label_counts"].sum(axis=1), clients["num_samples"]
    )
    assert clients["num_samples"].sum() == 1437
    for method in ("FedAsync hinge(10, 4)", "FedAvg"):
        updates = read_run.read_updates(path, method)
        timeline = read_run.read_timeline(path, method)
        assert updates is not None and timeline is not None
        assert 20 < len(set(timeline["client"].tolist())) <= 30
        assert timeline["end"].max() <= updates["arrival_time"][-1]
        # Nobody is ever away, and what the end of the run cuts off is not lost.
        assert read_run.read_lost(path, method) is None


def test_all_methods_get_the_same_number_of_gradients(finished):
    path, output = finished
    rows = json.loads((path / "summary.json").read_text())
    assert [row["method"] for row in rows] == [
        "FedAsync constant",
        "FedAsync polynomial(0.5)",
        "FedAsync hinge(10, 4)",
        "FedAvg",
        "FedProx",
        "SGD",
    ]
    assert {row["gradients"] for row in rows} == {1000}
    for row in rows:
        assert row["method"] in output
        assert row["rejected"] == 0
        folder = path / slugify(row["method"]) / "model"
        assert {p.name for p in folder.iterdir()} == {
            "model.json",
            "model.safetensors",
            "orbax",
        }


def test_metrics_tell_of_every_evaluation(finished):
    path, _ = finished
    mine = read_run.read_metrics(path)["FedAsync polynomial(0.5)"]
    assert [row["version"] for row in mine] == [0, 50, 100, 150, 200]
    assert [row["gradients"] for row in mine] == [0, 250, 500, 750, 1000]
    times = [row["virtual_time"] for row in mine]
    assert times[0] == 0.0 and times == sorted(times)
    assert mine[-1]["test_accuracy"] > mine[0]["test_accuracy"] + 0.3
    with np.load(path / "fedasync-polynomial-0-5" / "updates.npz") as saved:
        recent = saved["staleness"][150:]
        assert mine[-1]["mean_staleness"] == pytest.approx(recent.mean())
        np.testing.assert_allclose(
            saved["alpha"], 0.6 * (saved["staleness"] + 1.0) ** -0.5, rtol=1e-6
        )


def test_the_user_is_warned_of_a_staleness_function_that_does_not_fit(finished):
    _, output = finished
    assert "note: FedAsync hinge(10, 4): " in output
    assert "note: FedAsync polynomial" not in output


def test_the_pictures_can_be_drawn_again(finished):
    path, _ = finished
    (path / "plots" / "alpha.png").unlink()
    done = run_script("plot.py", path)
    assert done.returncode == 0, done.stderr
    assert (path / "plots" / "alpha.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alpha", "2"], "alpha must be in (0, 1], got 2.0"),
        (
            ["--methods", "fedasinc"],
            "methods must be rules or baselines, got 'fedasinc'",
        ),
        (["--num-clients", "5000"], "num_clients must be in 1..1437"),
        (["--concurrency", "101"], "concurrency must be in [1, 100]"),
        (["--alpha", "much"], "alpha must be a number, got 'much'"),
        (["--alhpa", "0.5"], "--alhpa"),
        (["--dataset", "npz", "--data-path", "missing.npz"], "missing.npz"),
        (["--dataset", "npz"], "data_path must name an .npz file for dataset npz"),
        (["--dataset", "cifar10", "--data-path", "."], "; data_path must hold one of"),
        (["--fleet", "cars"], "fleet must be one of stragglers, mobile, got 'cars'"),
        (["--fleet"], "fleet must be one of stragglers, mobile, got ''"),
        (["--fleet", "mobile", "--latency", "-1"], "latency must be finite and >= 0"),
        (
            ["--availability", "replay", "--availability-path", "missing.csv"],
            "missing.csv",
        ),
        (
            ["--fleet=stragglers", "--schedule", "sampled"],
            "fleet must not be given for",
        ),
        (["--fleet=mobile", "--schedule=sampled"], "(schedule immediate has one)"),
        (["--fleet=mobile", "--preset=cifar10-paper"], "(schedule immediate has one)"),
        (["--run-dir", ".."], "run_dir must be a new folder or a run with config"),
        (["--run-dir", "x" * 300], "run_dir must be a folder that can be made and"),
        (["--resume", "nothere"], "resume must be a run folder, got nothere"),
        (["--resume", "x" * 300], "resume must be a run folder, got xxx"),
        (["--summary", "."], "summary must be a run folder, got ."),
        (["--summary", "x" * 300], "summary must be a run folder, got xxx"),
        (["--summary", ".", "--alpha", "1"], "summary must stand alone, got --alpha 1"),
        (["--check=1"], "argument --check: ignored explicit argument '1'"),
        (["--max-update-norm", "0"], "max_update_norm must be finite and > 0, got 0"),
        (
            ["--stop-after-rejected", "0"],
            "stop_after_rejected must be finite and >= 1, got 0",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    done = run_script("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_not_read_is_noted(tmp_path):
    words = ("--max-staleness", 2, "--run-dir", "..")  # so that it ends there
    done = run_script("train.py", *words, cwd=tmp_path)
    note = "note: not read: max_staleness (only for schedule sampled)\n"
    assert done.returncode == 2 and done.stdout.startswith(note)


@pytest.mark.parametrize("flag", ["--resume", "--summary"])
def test_a_run_of_something_else_is_refused_in_one_line(flag, tmp_path):
    settings = json.dumps({"settings": make_settings().to_json()})
    (tmp_path / "config.json").write_text(settings)
    done = run_script("train.py", flag, tmp_path)
    assert done.returncode == 2
    assert done.stderr == (f"error: {flag[2:]} must be a run folder, got {tmp_path}\n")


SMALL = (
    *("--methods", "fedasync-polynomial", "fedavg", "sgd"),
    *("--num-updates", 60, "--eval-every", 20),
    *("--num-clients", 8, "--clients-per-round", 2, "--concurrency", 4),
)


def run_with_windows(tmp_path, *windows):
    """Run a small job on clients that are there from a start to an end."""
    rows = [",".join(map(str, window)) for window in windows]
    table = tmp_path / "windows.csv"
    table.write_text("\n".join(["client,start,end", *rows]) + "\n")
    path = tmp_path / "run"
    habit = ("--availability", "replay", "--availability-path", table)
    return path, run_script(
        "train.py", *SMALL, *habit, "--run-dir", path, "--check", cwd=tmp_path
    )


def test_a_fleet_of_phones_that_is_checked(tmp_path):
    path = tmp_path / "run"
    done = run_script(
        "train.py", *SMALL, "--fleet", "mobile", "--check", "--run-dir", path
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((path / "config.json").read_text())
    assert config["fleet"] == "mobile"
    assert config["settings"]["availability"] == "idle-charging-unmetered"
    assert config["settings"]["num_clients"] == 8
    rows = json.loads((path / "summary.json").read_text())
    assert rows[0]["lost"] > 0
    counted = 0
    for row in rows[:2]:
        lost = read_run.read_lost(path, row["method"])
        assert (0 if lost is None else len(lost["client"])) >= row["lost"]
        counted += 60 + row["lost"]
    (line,) = [li for li in done.stdout.splitlines() if li.startswith("checked: ")]
    count, rest = line.removeprefix("checked: ").split(" ", 1)
    assert rest == "tasks, all in order"
    assert int(count.replace(",", "")) > counted
    assert (path / "plots" / "lost.png").is_file()


def test_a_run_whose_clients_are_gone_ends_with_a_note_and_its_results(tmp_path):
    windows = [(client, 0, 30 + client) for client in range(8)]
    path, done = run_with_windows(tmp_path, *windows)
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
    methods = read_run.read_metrics(path)
    assert len(notes) == 2
    for method, note in zip(("FedAsync polynomial(0.5)", "FedAvg"), notes, strict=True):
        last = methods[method][-1]
        updates = read_run.read_updates(path, method)
        assert updates is not None
        assert 0 < last["updates"] == len(updates["client"]) < 60
        assert last["virtual_time"] < 38
        start = f"note: {method} ends after {last['updates']} updates: "
        assert note.startswith(f"{start}nobody is available after ")
        assert method in done.stdout
    assert len(json.loads((path / "summary.json").read_text())) == 3
    assert "checked: " in done.stdout


def test_a_fleet_of_which_nobody_is_ever_there_is_one_line(tmp_path):
    path, done = run_with_windows(tmp_path, (3, 1e12, 2e12))
    assert done.returncode == 2
    assert done.stderr == (
        "error: fleet must bring back a model, but none ever arrives: nobody is "
        "available after 0 s\n"
    )
    assert not path.exists()


def test_a_users_own_data_and_a_cnn_and_no_clock(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "own.npz"
    labels = rng.integers(0, 3, 120).astype(np.int64)
    images = (
        rng.normal(size=(120, 8, 8, 1)).astype(np.float32) + labels[:, None, None, None]
    )
    train, test = slice(90), slice(90, None)
    np.savez(
        path,
        x_train=images[train],
        y_train=labels[train],
        x_test=images[test],
        y_test=labels[test],
    )
    settings = make_settings(
        dataset="npz",
        data_path=path,
        num_clients=6,
        partition="iid",
        model="cnn",
        schedule="sampled",
        methods=("fedasync-exponential", "sgd"),
        num_updates=20,
        eval_every=10,
        epochs=0.5,
    )
    built = build_experiment(settings)
    outcomes = [runner.run_method(built, method) for method in built.methods]
    gradients = [report.summarize(outcome)["gradients"] for outcome in outcomes]
    assert gradients == [20, 20]  # 15 samples: half a pass is one batch of 10
    assert outcomes[0].rows[-1]["virtual_time"] is None
    assert outcomes[0].method.trace.staleness.max() <= 3


def test_h_per_task_and_periodic_triggers():
    settings = make_settings(
        methods=("fedasync-linear", "fedavg"),
        schedule="periodic",
        num_updates=40,
        max_steps=8,
    )
    built = build_experiment(settings)
    asynchronous, fedavg = built.methods
    steps = asynchronous.trace.num_steps
    assert set(steps) <= {5, 6, 7, 8} and len(set(steps)) > 1
    starts = asynchronous.trace.start_time
    np.testing.assert_array_equal(starts % settings["interval"], 0)
    assert fedavg.trace.num_updates == 40
    assert (fedavg.trace.start_version % 10 == 0).all()


TRAIN = ROOT / "scripts" / "train.py"
_SHORT = ("--methods", "fedasync-polynomial", "--num-updates", "1000", "--eval-every")


def _finish(*args, **how):
    done = run_script("train.py", *args, **how)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    _finish(*_SHORT, "25", "--run-dir", path, may_fork=False)
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_goes_on_as_if_it_never_was(tmp_path, whole, number):
    path = tmp_path / "stopped"
    process = start(TRAIN, *_SHORT, "25", "--run-dir", path)
    while process.poll() is None and not list(path.glob("*/checkpoints/*.json")):
        time.sleep(0.01)
    process.send_signal(number)
    said = process.finish()
    if number != signal.SIGKILL:
        assert said.returncode == 128 + number
        assert f"--resume {path}" in said.stdout
    summary = run_script("train.py", "--summary", path).stdout
    assert f"resume with: python scripts/train.py --resume {path}" in summary
    assert "not finished, " in summary or "FedAsync" not in summary
    assert not (path / "summary.json").exists()
    _finish("--resume", path)
    slug = "fedasync-polynomial-0-5"
    model = f"{slug}/model/model.safetensors"
    for name in ("metrics.jsonl", model, f"{slug}/updates.npz"):
        assert (path / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_method_that_diverges_is_named_and_the_others_have_results(tmp_path):
    path = tmp_path / "run"
    bound = ("--max-update-norm", "1e-6", "--stop-after-rejected", 20)
    done = run_script("train.py", *SMALL, *bound, "--run-dir", path, "--tensorboard")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert "FedAvg stopped: the last 20 arrivals or more before version 20 were" in last
    (row,) = json.loads((path / "summary.json").read_text())
    assert row["method"] == "SGD"
    assert (path / "plots" / "accuracy.png").is_file()
    assert {p.name for p in (path / "tensorboard").iterdir()} == {
        "fedasync-polynomial-0-5",
        "fedavg",
        "sgd",
    }


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="not root")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_run_of_somebody_else_is_refused_in_one_line(tmp_path, mode):
    """A folder of root that nobody may read, or may read but not write."""
    settings = {"settings": {"alpha": 0.5}}
    code = (
        "import os, sys, fcntl\n"
        "from fedasync_jax.storage import run_folder; os.setuid(65534)\n"
        f"try: run_folder.RunFolder(sys.argv[1], {settings})\n"
        "except ValueError as error: print(error)"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(mode)
        (Path(folder) / "config.json").write_text(json.dumps(settings))
        done = run_code(code, folder)
    assert done.stdout.startswith("run_dir must be a folder that can be "), done
    assert "(Permission denied)" in done.stdout and done.stdout.count("\n") == 1
