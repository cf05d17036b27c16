"""CIFAR-10 of TensorFlow Datasets: read, found, fetched; without any network."""

import importlib.util
import json
import os
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedasync_jax.data import fetch_cifar10, load_cifar10, load_cifar10_tfds
from fedasync_jax.data.cifar10 import tfds as cifar10_tfds
from fedasync_jax.data.tfds import fetch, prepare

_LOADERS = (load_cifar10, load_cifar10_tfds, fetch_cifar10)
_INSTEAD = (
    "data_path (--data-path) must name a folder with cifar10.npz, the batches of the "
    "python or binary version, or cifar10/<version> of tensorflow-datasets"
)


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


def _fails_like(start: object, pattern: str):
    """Expect one line that begins with ``start`` and goes on like the pattern."""
    return pytest.raises(ValueError, match=f"^{re.escape(str(start))}{pattern}[^\n]*$")


def _write_info(folder: Path, version: str = "3.0.2", **info: Any) -> Path:
    """Return the folder of a version; it has an info file and nothing else."""
    path = folder / "cifar10" / version
    path.mkdir(parents=True)
    (path / "dataset_info.json").write_text(json.dumps(info))
    return path


# Found or not, before anything is read.


def test_what_is_not_prepared_is_told_at_once(tmp_path):
    (tmp_path / "cifar10" / "3.0.2").mkdir(parents=True)
    start = f"{tmp_path}: no cifar10/<version>/dataset_info.json found; prepare it with"
    with _fails_like(start, ".*array_record"):
        load_cifar10_tfds(tmp_path)


def test_what_is_half_prepared_is_not_there(tmp_path):
    _write_info(tmp_path, "incomplete.ABC123_3.0.2", fileFormat="array_record")
    with _fails_like(f"{tmp_path}: no CIFAR-10 found; data_dir must hold", ""):
        load_cifar10(tmp_path)
    with _fails_like(f"{tmp_path}: no cifar10/<version>/dataset_info.json found", ""):
        load_cifar10_tfds(tmp_path)


@pytest.mark.parametrize("load", _LOADERS)
@pytest.mark.parametrize("info", [{"fileFormat": "tfrecord"}, {}])
def test_another_format(tmp_path, load, info):
    version = _write_info(tmp_path, **info)
    line = "must be in the format array_record, got tfrecord; prepare it in another"
    with _fails_like(f"{version}: {line}", ".*file_format='array_record'"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "\xff"])
def test_damaged_info(tmp_path, text):
    version = _write_info(tmp_path)
    (version / "dataset_info.json").write_bytes(text.encode("latin-1"))
    with _fails_like(f"{version}: dataset_info.json cannot be read (", ""):
        load_cifar10_tfds(tmp_path)


@pytest.mark.parametrize("load", _LOADERS)
def test_reading_without_the_extra_names_it(tmp_path, load, monkeypatch):
    _write_info(tmp_path, "3.0.2", fileFormat="tfrecord")
    alternative = {"alternativeFileFormats": ["array_record"]}
    version = _write_info(tmp_path, "3.0.10", **alternative)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with _fails_like(f"{version}: reading it needs the extra 'tfds' (", ""):
        load(tmp_path)


def test_last_among_the_layouts_but_before_incomplete_ones(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    version = _write_info(tmp_path, fileFormat="array_record")
    names = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
    for name in names[:-1]:
        (tmp_path / name).touch()
    with _fails_like(version, ": reading it needs the extra"):
        load_cifar10(tmp_path)
    (tmp_path / names[-1]).touch()
    with _fails_like(tmp_path / names[0], ": must have 30730000 bytes"):
        load_cifar10(tmp_path)


# What the real builder has prepared.


@pytest.fixture
def tfds_folder(tmp_path):
    """Twenty training and ten test images."""
    tfds = pytest.importorskip("tensorflow_datasets")
    image = pytest.importorskip("PIL.Image")

    def examples(split: str, count: int):
        for i in range(count):
            png = tmp_path / f"{split}{i}.png"
            image.fromarray(np.full((32, 32, 3), (i, 20, 30), np.uint8)).save(png)
            key = f"{split}_{i:05d}"
            yield key, {"id": key, "image": png.read_bytes(), "label": i % 10}

    builder: Any = tfds.builder(
        "cifar10", data_dir=tmp_path / "data", file_format="array_record"
    )
    builder._split_generators = lambda dl_manager: {
        "train": examples("train", 20),
        "test": examples("test", 10),
    }
    builder.download_and_prepare()
    return tmp_path / "data"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("load", [load_cifar10, load_cifar10_tfds])
def test_prepared_data_are_read_without_tensorflow(tfds_folder, load):
    data = load(tfds_folder, verify=False)
    assert data.x_train.shape == (20, 32, 32, 3)
    assert [a.dtype.name for a in data[:4]] == ["uint8", "int32"] * 2
    assert data.num_classes == 10
    assert sorted(data.x_train[:, 0, 0, 0].tolist()) == list(range(20))
    assert np.array_equal(data.x_train[:, 5, 6, 0] % 10, data.y_train)
    assert np.array_equal(data.x_test[:, 5, 6, 0], data.y_test)
    assert (data.x_train[..., 1] == 20).all()
    assert (data.x_train[..., 2] == 30).all()
    assert "tensorflow" not in sys.modules
    line = "split 'train' must have 50000 images (else verify=False), got 20"
    with _fails(f"{tfds_folder}/cifar10/3.0.2: {line}"):
        load(tfds_folder)


@pytest.mark.filterwarnings("ignore")
def test_truncated_file(tfds_folder):
    version = tfds_folder / "cifar10" / "3.0.2"
    (file,) = version.glob("*test.array_record*")
    os.truncate(file, 1000)
    with _fails_like(version, ": cannot be read"):
        load_cifar10_tfds(tfds_folder, verify=False)


@pytest.mark.filterwarnings("ignore")
def test_info_without_files(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    version = _write_info(tmp_path, fileFormat="array_record")
    with _fails_like(version, ": cannot be read"):
        load_cifar10_tfds(tmp_path)


# Fetched. The two packages are stand-ins, found by this process and by its child.

_STAND_IN = """
import json, os, pathlib, sys
import numpy as np

class download:
    DownloadConfig = dict

def builder(name, *, data_dir, file_format):
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    return Builder(pathlib.Path(data_dir) / name / "3.0.2", file_format)

def builder_from_directory(folder):
    return Builder(folder, None)

class Builder:
    def __init__(self, folder, file_format):
        self.folder, self.file_format = folder, file_format

    def download_and_prepare(self, download_config):
        assert download_config == {"try_download_gcs": False}
        %s
        self.folder.mkdir(parents=True)
        info = {"fileFormat": self.file_format}
        (self.folder / "dataset_info.json").write_text(json.dumps(info))

    def as_data_source(self, split):
        example = {"image": np.full((32, 32, 3), 7, np.uint8), "label": 9}
        return [example] * {"train": 50_000, "test": 10_000}[split]
"""


def _install_stand_ins(folder: Path, monkeypatch, *, first: str = "pass") -> None:
    """Install stand-ins; ``first`` is what the preparation does first."""
    sources = {"tensorflow": "", "tensorflow_datasets": _STAND_IN % first}
    for name, source in sources.items():
        path = folder / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


@pytest.fixture
def packages(tmp_path_factory, monkeypatch):
    _install_stand_ins(tmp_path_factory.mktemp("packages"), monkeypatch)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def no_child(monkeypatch):
    """Let every start of a child process fail with another error than ours."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


@pytest.fixture
def server(monkeypatch):
    """Let a server of this machine be the source."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        source = fetch.Address(*listening.getsockname())
        monkeypatch.setattr(cifar10_tfds, "_SOURCE", source)
        yield source


@pytest.fixture
def closed_port(monkeypatch):
    """Let the source be a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        source = fetch.Address(*listening.getsockname())
    monkeypatch.setattr(cifar10_tfds, "_SOURCE", source)
    return source


def _unreachable(folder: Path, host: str) -> str:
    return (
        f"cifar10: nothing prepared in {folder} and {host} cannot be reached; "
        f"{_INSTEAD}"
    )


@pytest.mark.usefixtures("packages", "no_child")
def test_no_network_is_told_at_once(tmp_path, monkeypatch, closed_port):
    with _fails(_unreachable(tmp_path, "127.0.0.1")):
        fetch_cifar10(tmp_path)
    source = fetch.Address("www.example.invalid", 443)
    monkeypatch.setattr(cifar10_tfds, "_SOURCE", source)
    with _fails(_unreachable(tmp_path, "www.example.invalid")):
        fetch_cifar10(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("packages", "no_child")
def test_a_resolver_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    released = threading.Event()

    def resolve(*args: object, **kwargs: object) -> None:
        released.wait(60)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(fetch, "_TIMEOUT", 0.1)
    start = time.monotonic()
    with _fails(_unreachable(tmp_path, "www.cs.toronto.edu")):
        fetch_cifar10(tmp_path)
    assert time.monotonic() - start < 10
    released.set()


@pytest.mark.usefixtures("packages", "no_child", "closed_port")
def test_the_default_is_the_folder_of_tensorflow_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    with _fails(_unreachable(tmp_path / "elsewhere", "127.0.0.1")):
        fetch_cifar10()
    monkeypatch.delenv("TFDS_DATA_DIR")
    with _fails(_unreachable(tmp_path / "tensorflow_datasets", "127.0.0.1")):
        fetch_cifar10()


@pytest.mark.usefixtures("packages", "no_child", "server")
def test_a_proxy_is_what_must_be_reached(tmp_path, monkeypatch):
    for url in ("http://user:word@proxy.invalid:1/", "proxy.invalid:1"):
        monkeypatch.setenv("https_proxy", url)
        with _fails(_unreachable(tmp_path, "proxy.invalid")):
            fetch_cifar10(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(FileNotFoundError, match="/nowhere/python"):  # goes on
        fetch_cifar10(tmp_path)


@pytest.mark.usefixtures("packages", "no_child", "closed_port")
@pytest.mark.parametrize("name", ["manual/", "cifar10/cs.toronto.edu_kriz_", ""])
def test_with_the_archive_no_network_is_needed(tmp_path, name):
    archive = tmp_path / "downloads" / f"{name}cifar-10-binary.tar.gz"
    archive.parent.mkdir(parents=True)
    archive.touch()
    with pytest.raises(FileNotFoundError, match="/nowhere/python"):  # goes on
        fetch_cifar10(tmp_path)


@pytest.mark.usefixtures("packages", "no_child", "server")
@pytest.mark.parametrize(
    ("missing", "names"),
    [
        (["tensorflow"], "tensorflow"),
        (["tensorflow_datasets"], "tensorflow_datasets"),
        (
            ["tensorflow", "tensorflow_datasets"],
            "tensorflow_datasets and tensorflow",
        ),
    ],
)
def test_preparing_without_the_extra_names_it(tmp_path, monkeypatch, missing, names):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with _fails(
        f"cifar10: {_INSTEAD}; or install the extra 'tfds-prepare' ({names}), which "
        f"prepares it in {tmp_path}"
    ):
        fetch_cifar10(tmp_path)


@pytest.mark.usefixtures("packages", "server")
def test_fetched_once_by_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    data = fetch_cifar10(tmp_path)
    assert data.x_train.shape == (50_000, 32, 32, 3)
    assert data.x_test.shape == (10_000, 32, 32, 3)
    assert [a.dtype.name for a in data[:4]] == ["uint8", "int32"] * 2
    assert (data.x_test == 7).all()
    assert (data.y_train == 9).all()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert len(fetch_cifar10(tmp_path).y_test) == 10_000


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (
            "print('busy', file=sys.stderr); raise OSError('disk\\n  full')",
            "OSError: disk full",
        ),
        ("os._exit(9)", "exit status 9"),
    ],
)
def test_a_failed_preparation_is_one_line(tmp_path, monkeypatch, first, reason):
    packages = tmp_path / "packages"
    packages.mkdir()
    _install_stand_ins(packages, monkeypatch, first=first)
    folder = tmp_path / "data"
    line = f"cifar10: could not be prepared in {folder} ({reason}); {_INSTEAD}"
    with _fails(line):
        fetch_cifar10(folder)


def test_the_program_wants_one_folder(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prepare"])
    with pytest.raises(SystemExit, match=r"^usage: python -m fedasync_jax\.data\."):
        prepare.main()
