"""Only what the project wrote is written over, whatever the folder."""

import hashlib

import matplotlib
import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax import plotting
from fedasync_jax.cli.together import run_all_points
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.loggers.tensorboard import TensorBoard
from fedasync_jax.jobs.sweep import Point
from fedasync_jax.jobs.tables import write_table
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.ownership import write_owned
from fedasync_jax.storage.run_folder import RunFolder

matplotlib.use("Agg")

_MODEL = fa.Variables({"w": np.ones(2, np.float32)})
_TABLE = [{"method": "SGD", "metric": "x", "mean": 0.5}]


def write_run(path):
    with RunFolder(path, {"settings": {}}) as folder:
        folder.begin_sitting("SGD", 0)
        folder.add_metrics({"method": "SGD", "version": 0, "gradients": 0})
        folder.write_arrays("clients.npz", {"num_samples": np.arange(3)})
        folder.write_facts("SGD", is_async=False)
        folder.write_summary([])


def draw(folder):
    write_run(folder.parent / "one")
    write_run(folder.parent / "two")
    plotting.compare_runs([folder.parent / "one", folder.parent / "two"], folder)


def open_checkpoints(folder):
    with Checkpoints(folder, every=1):
        pass


def sweep(folder):
    from rich.console import Console

    settings = make_settings(
        methods=("fedasync-constant",), num_updates=4, num_clients=4, concurrency=2
    )
    settings = settings.replace(clients_per_round=2, hidden=(2,), eval_every=4)
    run_all_points([Point(folder / "all" / "seed-0", settings)], folder, Console())


# Every public function that takes a folder to write to, and what it calls its files.
WRITERS = {
    "save_model": (
        lambda f: fa.save_model(f, _MODEL),
        ["model.json", "model.safetensors", "orbax"],
    ),
    "RunFolder": (write_run, ["config.json", "metrics.jsonl", "clients.npz"]),
    "Checkpoints": (open_checkpoints, ["7.json", "12.json"]),
    "TensorBoard": (TensorBoard, ["events"]),
    "write_table": (
        lambda f: write_table(f / "table", _TABLE),
        ["table.csv", "table.parquet"],
    ),
    "compare_runs": (draw, ["compare.png"]),
    "run_all_points": (sweep, ["pieces.jsonl", "all"]),
}


def hash_all(folder):
    """Return the content of every file, and where every link leads."""
    return {
        path: path.readlink()
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() or path.is_symlink()
    }


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", ["file", "link"])
def test_files_of_the_user_stay_whatever_they_are_called(tmp_path, writer, kind):
    write, names = WRITERS[writer]
    for number, name in enumerate(["thesis.tex", *names]):
        folder = tmp_path / str(number) / "work"
        folder.mkdir(parents=True)
        far = folder.parent / "far.txt"
        far.write_text("mine, too")
        if kind == "file":
            (folder / name).write_text("mine")
        else:
            (folder / name).symlink_to(far)
        before = hash_all(folder.parent)
        try:
            write(folder)
        except (ValueError, OSError, SystemExit) as error:
            assert "\n" not in str(error)
        after = hash_all(folder.parent)
        assert {path: after.get(path) for path in before} == before, name


@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_written_is_written_over(tmp_path, writer):
    write, _ = WRITERS[writer]
    for _ in range(2):
        write(tmp_path / "new")


def test_a_file_of_ours_that_was_changed_is_the_users(tmp_path):
    path = tmp_path / "table.csv"
    write_owned(path, b"one")
    write_owned(path, b"two")
    assert path.read_bytes() == b"two"
    path.write_bytes(b"mine now")
    with pytest.raises(ValueError, match=r"table\.csv must be new or as this program"):
        write_owned(path, b"three")
    assert path.read_bytes() == b"mine now"
    path.unlink()
    write_owned(path, b"three")
    assert path.read_bytes() == b"three"


def test_a_kill_between_mark_and_file_leaves_it_ours(tmp_path, monkeypatch):
    from fedasync_jax.storage import ownership

    path = tmp_path / "table.csv"
    write_owned(path, b"one")
    write_file, calls = ownership.write_file, []

    def killed(target, content, **kwargs):
        if target == path:
            raise KeyboardInterrupt
        calls.append(target)
        write_file(target, content, **kwargs)

    monkeypatch.setattr(ownership, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write_owned(path, b"two")
    monkeypatch.undo()
    assert calls and path.read_bytes() == b"one"
    write_owned(path, b"three")
    assert path.read_bytes() == b"three"
