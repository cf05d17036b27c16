import contextlib
import json

import numpy as np
import pytest

from fedasync_jax.schedule.timeline import ACTIVITIES
from fedasync_jax.schedule.trace import LOSS_REASONS
from fedasync_jax.storage import read_run, run_folder
from fedasync_jax.storage.config import read_config


def make_folder(tmp_path):
    return run_folder.RunFolder(tmp_path / "runs" / "a", {"settings": {"alpha": 0.6}})


UPDATES = {
    "client": np.arange(4),
    "start_version": np.zeros(4, int),
    "start_time": np.zeros(4),
    "arrival_time": np.arange(4.0),
    "staleness": np.arange(4),
    "alpha": np.full(4, 0.5),
    "applied": np.array([True, False, True, True]),
    "loss": np.ones(4),  # any other array is read, too
}
LOST = {
    "client": np.array([3, 1], np.int32),
    "start_time": np.array([0.5, 1.0]),
    "end_time": np.array([2.0, 9.5]),
    "reason": np.array([0, len(LOSS_REASONS) - 1], np.int8),
}
TIMELINE = {
    "client": np.array([3, 3, 1], np.int32),
    "start": np.array([0.0, 1.0, 2.0]),
    "end": np.array([1.0, 1.5, 9.0]),
    "activity": np.array([1, 2, len(ACTIVITIES) - 1], np.int8),
}
READ_FNS = {
    "updates": read_run.read_updates,
    "lost": read_run.read_lost,
    "timeline": read_run.read_timeline,
}


def assert_same(read, written):
    assert read is not None and read.keys() == written.keys()
    for name, array in written.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_a_folder_that_exists_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(
        ValueError,
        match=r"^run_dir must be a new folder or a run with config\.json, got ",
    ):
        run_folder.RunFolder(tmp_path, {"settings": {}})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="run_dir must be a folder that can be made"):
        run_folder.RunFolder(tmp_path / "file" / "run", {})


def test_config_and_metrics_are_read_back(tmp_path):
    folder = make_folder(tmp_path)
    rows = [{"method": "SGD", "version": v, "test_accuracy": v / 10} for v in range(3)]
    for row in rows:
        folder.add_metrics(row)
    config = read_config(folder.path)
    assert config["settings"] == {"alpha": 0.6}
    assert config["sittings"] == [{"begins": {}}]
    (read,) = read_run.read_metrics(folder.path).values()
    assert [{name: row[name] for name in rows[0]} for row in read] == rows
    assert read[0]["virtual_time"] is None and read[0]["lost"] == 0


def test_lines_of_an_earlier_part_stay_while_they_are_told_again(tmp_path):
    def lines():
        return (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()

    rows = [{"method": "x", "version": v} for v in range(4)]
    first = run_folder.RunFolder(tmp_path / "a", _CONFIG)
    for row in rows:
        first.add_metrics(row)
    first.close()
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"method": "x", "ver')  # cut by a kill
    second = run_folder.RunFolder(tmp_path / "a", _CONFIG)
    for count, row in enumerate(rows[:3]):
        second.add_metrics(row)
        assert len(lines()) == 5, count
    second.add_metrics({"method": "x", "version": 9})
    assert lines() == [
        json.dumps(row) for row in (*rows[:3], {**rows[0], "version": 9})
    ]


def test_a_full_disk_is_named(tmp_path):
    """A limit on the size of files stands for the disk."""
    folder = make_folder(tmp_path)
    with resource_limit(100):
        for version in (0, 1):
            folder.add_metrics({"method": "x", "version": version})
        with pytest.raises(OSError, match=r"metrics\.jsonl could not be written: "):
            folder.add_metrics({"method": "x" * 90, "version": 2})
        with pytest.raises(OSError, match=r"clients\.npz could not be written: "):
            folder.write_arrays("clients.npz", {"num_samples": np.arange(999)})
    assert [row["version"] for row in read_run.read_metrics(folder.path)["x"]] == [
        0,
        1,
    ]
    assert read_run.read_clients(folder.path) is None


@contextlib.contextmanager
def resource_limit(num_bytes):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---- archives ----


def test_what_clients_did_and_lost_is_read_back_exactly(tmp_path):
    folder = make_folder(tmp_path)
    folder.write_method("FedAvg", updates=UPDATES, lost=LOST, timeline=TIMELINE)
    assert_same(read_run.read_updates(folder.path, "FedAvg"), UPDATES)
    assert_same(read_run.read_lost(folder.path, "FedAvg"), LOST)
    assert_same(read_run.read_timeline(folder.path, "FedAvg"), TIMELINE)
    names = {path.name for path in (folder.path / "fedavg").iterdir()}
    assert names == {"updates.npz", "lost.npz", "timeline.npz"}


def test_arrays_may_be_written_one_archive_at_a_time(tmp_path):
    folder = make_folder(tmp_path)
    clients = {"num_samples": np.arange(3), "label_counts": np.ones((3, 2), int)}
    folder.write_arrays("clients.npz", clients)
    folder.write_arrays("fedavg/lost.npz", LOST)
    folder.write_method("FedAvg", updates=UPDATES)
    assert_same(read_run.read_clients(folder.path), clients)
    assert_same(read_run.read_lost(folder.path, "FedAvg"), LOST)


@pytest.mark.parametrize("read_fn", READ_FNS.values(), ids=READ_FNS)
def test_an_archive_that_is_not_there_or_empty_is_none(tmp_path, read_fn):
    folder = make_folder(tmp_path)
    assert read_fn(folder.path, "FedAvg") is None
    for name, arrays in {
        "updates": UPDATES,
        "lost": LOST,
        "timeline": TIMELINE,
    }.items():
        none = {key: array[:0] for key, array in arrays.items()}
        folder.write_arrays(f"fedavg/{name}.npz", none)
    assert read_fn(folder.path, "FedAvg") is None
    assert read_run.read_clients(folder.path) is None


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("updates", {"client": np.ones(2)}, "must be an archive of client, "),
        (
            "lost",
            {**LOST, "client": np.ones(5)},
            "must hold arrays of one length, got ",
        ),
        ("lost", {**LOST, "client": np.int32(5)}, "must be an archive of client, "),
        (
            "lost",
            {**LOST, "reason": np.array([0, 9])},
            r"must be in 0\.\..*, got 0 to 9",
        ),
        (
            "timeline",
            {**TIMELINE, "activity": np.array([0, 1, -1])},
            "got -1 to 1",
        ),
    ],
)
def test_a_bad_archive_is_refused_in_one_line(tmp_path, name, arrays, message):
    folder = make_folder(tmp_path)
    folder.write_arrays(f"sgd/{name}.npz", arrays)
    with pytest.raises(ValueError, match=message) as error:
        READ_FNS[name](folder.path, "SGD")
    assert f"{name}.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_numbers_of_activities_on_the_disk_mean_what_they_meant():
    names = ("away", "download", "work", "upload", "lost")
    assert names == ACTIVITIES


_CONFIG = {"settings": {"alpha": 0.6, "num_updates": 10, "hidden": [3]}}


def test_a_run_goes_on_with_the_same_settings_or_more_updates(tmp_path):
    first = run_folder.RunFolder(tmp_path / "a", _CONFIG)
    first.add_metrics({"method": "x", "version": 0})
    first.close()
    longer = {"settings": {**_CONFIG["settings"], "num_updates": 20, "hidden": (3,)}}
    second = run_folder.RunFolder(tmp_path / "a", longer)
    assert read_config(tmp_path / "a")["settings"]["num_updates"] == 10  # not yet
    second.begin_sitting("x", 1)
    config = read_config(tmp_path / "a")
    assert config["settings"]["num_updates"] == 20
    assert [sitting["begins"] for sitting in config["sittings"]] == [{}, {"x": 1}]
    assert len(read_run.read_metrics(tmp_path / "a")["x"]) == 1  # until it tells more
    for version in (0, 1):
        second.add_metrics({"method": "x", "version": version})
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"alpha": 0.5}, "alpha must be 0.6 to go on with the run {}, got 0.5"),
        ({"num_updates": 9}, "num_updates must be 10 to go on with the run {}, got 9"),
        ({"new": 1}, "new must be None to go on with the run {}, got 1"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changes, line):
    path = tmp_path / "a"
    run_folder.RunFolder(path, _CONFIG).close()
    with pytest.raises(ValueError) as error:
        run_folder.RunFolder(path, {"settings": {**_CONFIG["settings"], **changes}})
    assert str(error.value) == line.format(path)


def test_a_second_writer_is_told_of_the_first(tmp_path):
    first = run_folder.RunFolder(tmp_path / "a", _CONFIG)
    with pytest.raises(ValueError, match=r"which process \d+ on .* writes to$"):
        run_folder.RunFolder(tmp_path / "a", _CONFIG)
    first.close()
    run_folder.RunFolder(tmp_path / "a", _CONFIG)
