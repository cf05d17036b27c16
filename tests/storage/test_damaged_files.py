"""A file that was edited or damaged is named in one line; nothing of it is used."""

import json
import os
import shutil

import numpy as np
import pytest

from fedasync_jax.schedule.timeline import ACTIVITIES
from fedasync_jax.storage import read_run
from fedasync_jax.storage.archives import read_archive, write_archive
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.run_folder import RunFolder

_CONFIG = {"settings": {"alpha": 0.6, "num_updates": 10}, "preset": "digits"}
_ROWS = [
    {"method": "x", "version": v, "test_accuracy": v / 8, "virtual_time": float(v)}
    for v in range(4)
]
_LOST = {
    "client": np.arange(40),
    "start_time": np.linspace(0, 1, 40),
    "end_time": np.linspace(1, 2, 40),
    "reason": np.zeros(40, np.int8),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    with RunFolder(path, _CONFIG) as folder:
        folder.begin_sitting("x", 0)
        for row in _ROWS:
            folder.add_metrics(row)
        folder.write_method("x", lost=_LOST)
        folder.write_facts("x", is_async=True)
    return path


READERS = {
    "config.json": read_config,
    "metrics.jsonl": read_run.read_metrics,
    "x/lost.npz": lambda run: read_run.read_lost(run, "x"),
    "x/method.json": lambda run: read_run.read_is_async(run, "x"),
}


def is_same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            is_same(one[k], other[k]) for k in one
        )
    return bool(np.all(one == other))


def assert_one_line(error, name):
    assert "\n" not in str(error.value) and len(str(error.value)) <= 300
    assert name.rpartition("/")[2] in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "x/lost.npz"])
def test_no_flipped_bit_changes_what_is_read(run, tmp_path, name):
    here = shutil.copytree(run, tmp_path / "run")
    expected, content = READERS[name](run), (run / name).read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    for bit in rng.choice(8 * len(content), 300, replace=False).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (here / name).write_bytes(damaged)
        try:
            found = READERS[name](here)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) <= 300
            noticed += 1
        else:
            assert is_same(found, expected), bit
    assert noticed >= 290  # the rest: in the name of the checksum itself


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "x/method.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"settings": []}',
        b'{"method": 3, "version": 0}',
        b'{"method": "x", "version": -1}',
        b'{"method": "x", "version": 1e999}',
        b'{"name": "x", "is_async": "no"}',
        b"\xff\xfe\x00",
        b"9" * 5000,
    ],
)
def test_json_of_another_kind_is_refused(run, tmp_path, name, content):
    here = shutil.copytree(run, tmp_path / "run")
    (here / "metrics.sha256").unlink()
    (here / name).write_bytes(content + b"\n{}\n" * (name == "metrics.jsonl"))
    with pytest.raises(ValueError, match="must ") as error:
        READERS[name](here)
    assert_one_line(error, name)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused(run, tmp_path, name, kind):
    here = shutil.copytree(run, tmp_path / "run")
    path = here / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(ValueError, match="regular file") as error:
        READERS[name](here)
    assert_one_line(error, name)


def test_a_metrics_file_that_was_cut_is_refused_unless_a_run_was_killed(run, tmp_path):
    here = shutil.copytree(run, tmp_path / "run")
    path = here / "metrics.jsonl"
    content = path.read_bytes()
    path.write_bytes(content + b'{"method": "x", "ver')
    assert is_same(read_run.read_metrics(here), read_run.read_metrics(run))
    path.write_bytes(content[:-3])
    with pytest.raises(ValueError, match="its checksum differs"):
        read_run.read_metrics(here)


def test_a_run_that_goes_on_mends_its_metrics(run, tmp_path):
    here = shutil.copytree(run, tmp_path / "run")
    path = here / "metrics.jsonl"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.125", b"0.925"))
    with RunFolder(here, _CONFIG) as folder:
        for row in _ROWS:
            folder.add_metrics(row)
    assert path.read_bytes() == content
    assert is_same(read_run.read_metrics(here), read_run.read_metrics(run))


def test_files_of_an_earlier_version_have_no_checksum(run, tmp_path):
    here = shutil.copytree(run, tmp_path / "run")
    np.savez_compressed(here / "x" / "lost.npz", **_LOST)
    (here / "metrics.sha256").unlink()
    (here / "config.json").write_text(json.dumps(_CONFIG))
    assert is_same(read_run.read_lost(here, "x"), _LOST)
    assert len(read_run.read_metrics(here)["x"]) == 4
    assert read_config(here) == _CONFIG


@pytest.mark.parametrize(
    "lost",
    [
        {**_LOST, "client": _LOST["client"] - 1},
        {**_LOST, "client": np.array(["a"] * 40)},
        {**_LOST, "end_time": np.full(40, np.nan)},
        {**_LOST, "reason": np.full(40, len(ACTIVITIES) + 9, np.int8)},
    ],
)
def test_columns_that_mean_nothing_are_refused(run, tmp_path, lost):
    here = shutil.copytree(run, tmp_path / "run")
    write_archive(here / "x" / "lost.npz", lost)
    with pytest.raises(ValueError, match="must ") as error:
        read_run.read_lost(here, "x")
    assert_one_line(error, "x/lost.npz")


def test_numpy_reads_our_archives(tmp_path):
    write_archive(tmp_path / "a.npz", _LOST)
    with np.load(tmp_path / "a.npz") as archive:
        assert is_same(dict(archive), _LOST)
    assert is_same(read_archive(tmp_path / "a.npz", {"client": "i"}), _LOST)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "x/lost.npz", "x"])
def test_a_link_in_a_run_folder_is_not_written_through(run, tmp_path, name):
    here = shutil.copytree(run, tmp_path / "run")
    far = tmp_path / "far"
    if name == "x":
        shutil.rmtree(here / "x")
        far.mkdir()
    else:
        far.write_bytes((here / name).read_bytes())
        (here / name).unlink()
    before = far.read_bytes() if far.is_file() else None
    (here / name).symlink_to(far)
    try:
        with RunFolder(here, _CONFIG) as folder:
            folder.begin_sitting("x", 3)
            folder.add_metrics({**_ROWS[0], "version": 7})
            folder.write_method("x", lost=_LOST)
    except OSError as error:
        assert str(here / name) in str(error)
    assert (far.read_bytes() if before is not None else list(far.iterdir())) == (
        before if before is not None else []
    )
