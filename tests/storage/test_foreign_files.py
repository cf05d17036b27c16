"""What the project did not make, it neither removes nor changes."""

import numpy as np
import pytest
from commands import run_script

import fedasync_jax as fa
from fedasync_jax.engine.state import init_state
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.job import run_job
from fedasync_jax.jobs.loggers.protocol import LoggerCallback
from fedasync_jax.jobs.loggers.tensorboard import TensorBoard
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.orbax_folders import remove_orbax
from fedasync_jax.storage.run_folder import RunFolder

MODEL = fa.Variables({"w": np.arange(3.0, dtype=np.float32)})
JOB = {
    "methods": ("fedasync-constant",),
    "num_clients": 6,
    "concurrency": 3,
    "num_updates": 30,
    "eval_every": 10,
    "checkpoint_every": 1,
    "hidden": (4,),
}


@pytest.fixture(scope="module")
def built():
    return build_experiment(make_settings(**JOB))


def plant(folder):
    """Put what a user may have into a folder; return a function that looks for it."""
    (folder / ".git").mkdir(parents=True, exist_ok=True)
    (folder / "backup").mkdir()
    (folder / "2024").mkdir()
    (folder / "7").mkdir()
    files = [
        folder / name
        for name in ("thesis.tex", ".git/HEAD", "backup/a.npz", "2024/b.csv", "7/c.txt")
    ]
    for file in files:
        file.write_text(f"mine: {file.name}")
    far = folder.parent / "far"
    far.mkdir()
    (far / "precious.txt").write_text("mine: precious.txt")
    (folder / "link").symlink_to(far)
    (folder / "11").symlink_to(far)
    files.append(far / "precious.txt")

    def check():
        for file in files:
            assert file.read_text() == f"mine: {file.name}", file
        assert (folder / "link").is_symlink() and (folder / "11").is_symlink()

    return check


def test_a_model_does_not_take_the_place_of_other_things(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    check = plant(folder)
    monkeypatch.chdir(folder)
    line = (
        r"^folder must be empty or hold an earlier model alone, got .* with .git, 11, "
    )
    for target in (".", folder):
        with pytest.raises(ValueError, match=line):
            fa.save_model(target, MODEL)
    check()


@pytest.mark.parametrize("name", ["model.json", "orbax", "model.safetensors"])
def test_what_has_the_name_of_a_models_file_but_is_none_is_kept(tmp_path, name):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("mine")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).symlink_to(other)
    with pytest.raises(ValueError, match=f"with {name}$"):
        fa.save_model(folder, MODEL)
    (folder / name).unlink()
    (folder / name).mkdir()
    (folder / name / "mine").write_text("mine")
    with pytest.raises(ValueError, match=f"with {name}$"):
        fa.save_model(folder, MODEL)
    assert (folder / name / "mine").read_text() == "mine"
    assert (other / "mine").read_text() == "mine"


def test_a_model_takes_the_place_of_an_earlier_one(tmp_path):
    fa.save_model(tmp_path / "m", MODEL)
    fa.save_model(tmp_path / "m", fa.Variables({"v": np.ones(2, np.float32)}))
    assert list(fa.load_model(tmp_path / "m").params) == ["v"]
    empty = tmp_path / "empty"
    empty.mkdir()
    fa.save_model(empty, MODEL)
    assert sorted(p.name for p in empty.iterdir()) == [
        "model.json",
        "model.safetensors",
        "orbax",
    ]


def test_checkpoints_leave_everything_else_alone(tmp_path, built):
    folder = tmp_path / "checkpoints"
    check = plant(folder)
    method, versions = built.methods[0], []
    with Checkpoints(folder, every=1, keep=1) as checkpoints:

        def save(newest, make_snapshot):
            if newest[0] not in (7, 11):
                checkpoints.save(make_snapshot(0), {})
                checkpoints.wait()
                versions.append(newest[0])

        key = built.settings.make_key("tasks")
        worker, mixer = method.local_update, method.mixer
        args = method.trace, worker, mixer, built.variables, key
        fa.run(*args, batching=fa.Batching(call_seconds=0), on_call=save)
    check()
    assert len(versions) > 3
    kept = {p.name for p in folder.iterdir() if p.name in map(str, versions)}
    assert kept == {str(versions[0]), str(versions[-1])}  # the best, the newest


def test_a_checkpoint_is_not_written_over_what_is_there(tmp_path, built):
    folder = tmp_path / "checkpoints"
    check = plant(folder)
    method = built.methods[0]
    with Checkpoints(folder, every=1) as checkpoints:

        def save(newest, make_snapshot):
            snapshot = make_snapshot(0)
            state = snapshot.state._replace(version=7)
            checkpoints.save(snapshot._replace(state=state), {})
            checkpoints.wait()

        with pytest.raises(OSError, match="7 exists and was not made by a run"):
            fa.run(
                method.trace,
                method.local_update,
                method.mixer,
                built.variables,
                built.settings.make_key("tasks"),
                on_call=save,
            )
    check()


def test_a_job_keeps_what_a_user_puts_into_its_folder(tmp_path, built):
    config = {"settings": built.settings.to_json()}
    with RunFolder(tmp_path / "run", config) as folder:
        run_job(built, folder)
    check = plant(tmp_path / "run")
    (tmp_path / "run" / "fedasync-constant" / "notes.txt").write_text("mine")
    events = tmp_path / "run" / "tensorboard" / "fedasync-constant"
    events.mkdir(parents=True)
    (events / "notes.txt").write_text("mine")
    with RunFolder(tmp_path / "run", config) as folder:
        board = TensorBoard(tmp_path / "run" / "tensorboard")
        told = LoggerCallback(board, pytest.fail, settings={})
        run_job(built, folder, callbacks=[told])
    check()
    assert (events / "notes.txt").read_text() == "mine"
    assert (tmp_path / "run/fedasync-constant/notes.txt").read_text() == "mine"
    assert len(list(events.glob("events.*"))) == 1


@pytest.mark.parametrize("names", [(), (".lock",), (".lock", ".config.json")])
def test_a_folder_that_is_empty_or_was_only_begun_is_a_new_run_folder(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("")
    with RunFolder(tmp_path, {"settings": {"alpha": 0.5}}):
        assert (tmp_path / "config.json").is_file()


def test_a_folder_with_anything_else_is_no_run_folder(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="run_dir must be a new folder or a run"):
        RunFolder(tmp_path, {"settings": {"alpha": 0.5}})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_command_refuses_the_folder_of_a_user(tmp_path):
    check = plant(tmp_path / "work")
    done = run_script("train.py", "--run-dir", ".", cwd=tmp_path / "work")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    check()


def test_a_users_file_in_a_folder_of_orbax_stays(tmp_path):
    fa.save_model(tmp_path / "m", MODEL)
    mine = tmp_path / "m" / "orbax" / "mine.npz"
    mine.write_text("mine")
    with pytest.raises(ValueError, match=r"with orbax$"):
        fa.save_model(tmp_path / "m", MODEL)
    remove_orbax(tmp_path / "m" / "orbax")
    assert [path.name for path in (tmp_path / "m" / "orbax").iterdir()] == ["mine.npz"]
    mine.unlink()
    fa.save_model(tmp_path / "m", MODEL)
    remove_orbax(tmp_path / "m" / "orbax")
    assert not (tmp_path / "m" / "orbax").exists()


def test_a_checkpoint_that_is_dropped_leaves_a_users_file(tmp_path, built):
    config = {"settings": built.settings.to_json()}
    with RunFolder(tmp_path / "run", config) as folder:
        run_job(built, folder)
    checkpoints = tmp_path / "run" / "fedasync-constant" / "checkpoints"
    first = min(int(p.name) for p in checkpoints.iterdir() if p.name.isdecimal())
    mine = checkpoints / str(first) / "d" / "notes.txt"
    mine.write_text("mine")
    with Checkpoints(checkpoints, every=1, keep=1) as saved:
        state = init_state(
            built.methods[0].trace, built.methods[0].mixer, built.variables
        )
        found = saved.restore(state)
        assert found is not None
        saved.save(found[0], {}, score=9.0)
        saved.wait()
    assert mine.read_text() == "mine"
    assert [p.name for p in mine.parent.iterdir()] == ["notes.txt"]
