"""The main job, end to end, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedasync_jax import experiment, run_folder
from fedasync_jax.config import Settings

ROOT = Path(__file__).parents[1]


def run_script(name, *arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "run"
    done = run_script("train.py", "--num-updates", 200, "--run-dir", path)
    assert done.returncode == 0, done.stderr
    return path, done.stdout


def test_the_run_folder_is_complete(finished):
    path, _ = finished
    names = {p.name for p in path.iterdir()}
    assert {"config.json", "metrics.jsonl", "summary.json", "plots"} <= names
    pictures = {p.name for p in (path / "plots").iterdir()}
    assert pictures == {"accuracy.png", "staleness.png", "alpha.png"}
    config = json.loads((path / "config.json").read_text())
    assert config["settings"]["num_updates"] == 200
    assert {"python", "jax", "flax", "optax"} <= set(config["versions"])


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
        assert (path / run_folder.slugify(row["method"]) / "model.npz").is_file()


def test_metrics_tell_of_every_evaluation(finished):
    path, _ = finished
    mine = run_folder.read_metrics(path)["FedAsync polynomial(0.5)"]
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
        (["--methods", "fedasinc"], "methods must be one of fedasync-constant, "),
        (["--num-clients", "5000"], "num_clients must be in 1..1437"),
        (["--concurrency", "101"], "concurrency must be in [1, 100]"),
        (["--alpha", "much"], "--alpha"),
        (["--alhpa", "0.5"], "--alhpa"),
        (["--dataset", "npz", "--data-path", "missing.npz"], "missing.npz"),
        (["--run-dir", "."], "run_dir must be a folder that does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    done = run_script("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


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
    settings = Settings(
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
    built = experiment.build(settings)
    outcomes = [experiment.run_method(built, method) for method in built.methods]
    gradients = [experiment.summarize(outcome)["gradients"] for outcome in outcomes]
    assert gradients == [20, 20]  # 15 samples: half a pass is one batch of 10
    assert outcomes[0].rows[-1]["virtual_time"] is None
    assert outcomes[0].method.trace.staleness.max() <= 3


def test_h_per_task_and_periodic_triggers():
    settings = Settings(
        methods=("fedasync-linear", "fedavg"),
        schedule="periodic",
        num_updates=40,
        max_steps=8,
    )
    built = experiment.build(settings)
    asynchronous, fedavg = built.methods
    steps = asynchronous.trace.num_steps
    assert set(steps) <= {5, 6, 7, 8} and len(set(steps)) > 1
    starts = asynchronous.trace.start_time
    np.testing.assert_array_equal(starts % settings.interval, 0)
    assert fedavg.trace.num_updates == 40
    assert (fedavg.trace.start_version % 10 == 0).all()
