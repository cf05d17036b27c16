"""CIFAR-10 in every layout, from small or sparse files made here."""

import os
import pickle
import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax.data import (
    Dataset,
    load_cifar10,
    load_dataset,
    prepare_cifar10,
)
from fedasync_jax.data.cifar10.batches import read_pickled_batch

_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_RECORDS = 10_000
_MUST_HOLD = (
    "data_dir must hold one of: cifar10.npz | data_batch_1..5 + test_batch | "
    "data_batch_1..5.bin + test_batch.bin | cifar10/<version> of tensorflow-datasets"
)


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


def _fails_like(start: object, pattern: str):
    """Expect one line that begins with ``start`` and goes on like the pattern."""
    return pytest.raises(ValueError, match=f"^{re.escape(str(start))}{pattern}[^\n]*$")


# An .npz file.


def _arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """Six training images and three test images."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (6, 32, 32, 3), np.uint8),
        "y_train": np.array([0, 9, 2, 3, 4, 5]),
        "x_test": rng.integers(0, 256, (3, 32, 32, 3), np.uint8),
        "y_test": np.array([7, 8, 9], np.uint8),
    }
    return arrays | changes


def _save(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "cifar10.npz", **arrays)
    return folder / "cifar10.npz"


def test_npz_in_a_folder_or_by_its_own_path_stays_uint8(tmp_path):
    arrays = _arrays()
    path = _save(tmp_path, **arrays)
    for data_dir in (tmp_path, path, str(path)):
        data = load_cifar10(data_dir)
        assert np.array_equal(data.x_train, arrays["x_train"])
        assert np.array_equal(data.x_test, arrays["x_test"])
        assert data.y_train.tolist() == [0, 9, 2, 3, 4, 5]
        assert data.y_test.tolist() == [7, 8, 9]
        assert [a.dtype.name for a in data[:4]] == ["uint8", "int32"] * 2
        assert data.num_classes == 10


_NO_IMAGES = "must be uint8 [N, 32, 32, 3], N >= 1, got"


@pytest.mark.parametrize(
    ("name", "array", "line"),
    [
        ("x_train", np.zeros((6, 32, 32, 3)), f"{_NO_IMAGES} float64 [6, 32, 32, 3]"),
        ("x_train", np.zeros((6, 3072), "u1"), f"{_NO_IMAGES} uint8 [6, 3072]"),
        (
            "x_test",
            np.zeros((0, 32, 32, 3), "u1"),
            f"{_NO_IMAGES} uint8 [0, 32, 32, 3]",
        ),
        (
            "y_train",
            np.array([0, 1, 2, 10, 1, 2]),
            "must hold whole numbers in 0..9, got 10 in row 3",
        ),
        (
            "y_test",
            np.array([0, -1, 2]),
            "must hold whole numbers in 0..9, got -1 in row 1",
        ),
    ],
)
def test_npz_with_a_wrong_array(tmp_path, name, array, line):
    path = _save(tmp_path, **_arrays(**{name: array}))
    with _fails(f"{path}: {name} {line}"):
        load_cifar10(tmp_path)


def test_npz_with_labels_of_another_length(tmp_path):
    path = _save(tmp_path, **_arrays(y_test=np.array([1, 2])))
    with _fails(f"{path}: x_test and y_test must have one length, got 3 and 2"):
        load_cifar10(path)


def test_npz_truncated_without_arrays_or_no_npz_at_all(tmp_path):
    arrays = _arrays()
    del arrays["y_test"]
    path = _save(tmp_path, **arrays)
    with _fails(f"{path}: the arrays y_test are missing"):
        load_cifar10(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with _fails_like(path, ": cannot be opened as an .npz file"):
        load_cifar10(tmp_path)


# Layouts of several files.


def _python2_batch(data: np.ndarray, labels: list[int]) -> bytes:
    """Return a batch as Python 2 pickled the published ones."""
    rows, columns = data.shape
    minus_1 = b"J\xff\xff\xff\xff"
    return b"".join(
        [
            b"\x80\x02}(U\x0bbatch_labelU\x06batch U\x06labels](",
            *(bytes([ord("K"), label]) for label in labels),
            b"eU\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n",
            b"K\x00\x85U\x01b\x87R(K\x01",
            b"J%sJ%s\x86" % (struct.pack("<i", rows), struct.pack("<i", columns)),
            b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN",
            minus_1 * 2,
            b"K\x00tb\x89T%s" % struct.pack("<i", data.size),
            data.tobytes(),
            b"tbU\tfilenames](U\x05a.pngU\x05b.pngeu.",
        ]
    )


def _write_binary(path: Path, batch: int) -> None:
    """Write a sparse file with one record at the end that is not zero."""
    with path.open("wb") as file:
        file.seek((_RECORDS - 1) * 3073)
        file.write(bytes([batch]) + _pixels(batch).tobytes())


def _write_python(path: Path, batch: int) -> None:
    data = np.zeros((_RECORDS, 3072), np.uint8)
    data[-1] = _pixels(batch)
    path.write_bytes(_python2_batch(data, [0] * (_RECORDS - 1) + [batch]))


def _pixels(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, 3072, np.uint8)


def _check_complete(data: Dataset) -> None:
    """Check the last image of every batch against the definition of the layout."""
    assert data.x_train.shape == (50_000, 32, 32, 3)
    assert data.x_test.shape == (10_000, 32, 32, 3)
    assert [a.dtype.name for a in data[:4]] == ["uint8", "int32"] * 2
    assert np.flatnonzero(data.y_train).tolist() == [19_999, 29_999, 39_999, 49_999]
    assert data.y_train[_RECORDS - 1 :: _RECORDS].tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(data.y_test).tolist() == [9_999]
    assert data.y_test[-1] == 5
    images = [*data.x_train[_RECORDS - 1 :: _RECORDS], data.x_test[-1]]
    for batch, image in enumerate(images):
        pixels = _pixels(batch)
        for row, column, channel in [(0, 0, 0), (0, 1, 0), (1, 0, 1), (31, 30, 2)]:
            stored = pixels[channel * 1024 + row * 32 + column]
            assert image[row, column, channel] == stored
        assert np.array_equal(np.sort(image, axis=None), np.sort(pixels))
    assert not data.x_train[: _RECORDS - 1].any()


@pytest.fixture
def scratch():
    """A folder for large files that does not outlive the test."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin"])
def test_binary_version(scratch, folder):
    (scratch / folder).mkdir(exist_ok=True)
    for batch, name in enumerate(_BATCHES):
        _write_binary(scratch / folder / f"{name}.bin", batch)
    _check_complete(load_cifar10(scratch))


def test_python_version_and_its_rank_among_the_layouts(scratch):
    folder = scratch / "cifar-10-batches-py"
    folder.mkdir()
    for batch, name in enumerate(_BATCHES):
        _write_python(folder / name, batch)
        (scratch / f"{name}.bin").touch()  # a later layout, which is not looked at
    _check_complete(load_cifar10(scratch, verify=False))
    _save(folder, **_arrays())
    assert len(load_cifar10(folder).y_train) == 6


def test_a_complete_layout_wins_over_an_incomplete_one(scratch):
    (scratch / "data_batch_3").touch()
    for batch, name in enumerate(_BATCHES):
        _write_binary(scratch / f"{name}.bin", batch)
    assert load_cifar10(scratch).y_test[-1] == 5


def _touch_all(folder: Path, suffix: str = "") -> Path:
    """Make empty files of all names, and return the first."""
    for name in _BATCHES:
        (folder / f"{name}{suffix}").touch()
    return folder / f"data_batch_1{suffix}"


def test_nothing_there(tmp_path):
    with _fails(f"{tmp_path}: no CIFAR-10 found; {_MUST_HOLD}"):
        load_cifar10(tmp_path)
    path = tmp_path / "none"
    with _fails(f"{path}: no such file or folder; {_MUST_HOLD}"):
        load_cifar10(path)


@pytest.mark.parametrize(
    ("title", "folder", "suffix"),
    [
        ("python version", "", ""),
        ("python version", "cifar-10-batches-py", ""),
        ("binary version", "", ".bin"),
        ("binary version", "cifar-10-batches-bin", ".bin"),
    ],
)
def test_missing_files_are_named(tmp_path, title, folder, suffix):
    (tmp_path / folder).mkdir(exist_ok=True)
    _touch_all(tmp_path / folder, suffix)
    for name in ("data_batch_2", "test_batch"):
        (tmp_path / folder / f"{name}{suffix}").unlink()
    missing = f"data_batch_2{suffix}, test_batch{suffix}"
    with _fails(f"{tmp_path / folder}: the {title} lacks {missing}; {_MUST_HOLD}"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("size", [0, 3073, 30_730_000 - 1, 30_730_001])
def test_binary_file_of_a_wrong_size(tmp_path, size):
    path = _touch_all(tmp_path, ".bin")
    os.truncate(path, size)
    line = f"must have 30730000 bytes (10000 records of 3073), got {size}"
    with _fails(f"{path}: {line}"):
        load_cifar10(tmp_path)


def test_binary_file_with_a_wrong_label(scratch):
    path = _touch_all(scratch, ".bin")
    _write_binary(path, 10)
    line = "labels must hold whole numbers in 0..9, got 10 in row 9999"
    with _fails(f"{path}: {line}"):
        load_cifar10(scratch)


def test_wrong_checksum_is_told_before_anything_is_unpickled(tmp_path):
    path = _touch_all(tmp_path)
    path.write_bytes(pickle.dumps(_Trap()))
    line = "md5 must be c99cafc152244af753f735de768cd75f (as published; else "
    with _fails_like(path, ": " + re.escape(line + "verify=False), got ")):
        load_cifar10(tmp_path)


def test_python_batch_of_other_numbers(tmp_path):
    path = _touch_all(tmp_path)
    path.write_bytes(_python2_batch(np.zeros((2, 3072), np.uint8), [1, 2, 3]))
    line = "must hold data of shape (10000, 3072) and 10000 labels, got (2, 3072) and 3"
    with _fails(f"{path}: {line}"):
        load_cifar10(tmp_path, verify=False)


def test_python_batch_with_a_wrong_label(scratch):
    path = _touch_all(scratch)
    _write_python(path, 11)
    line = "labels must hold whole numbers in 0..9, got 11 in row 9999"
    with _fails(f"{path}: {line}"):
        load_cifar10(scratch, verify=False)


# Pickles.

_SMALL = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


class _Trap:
    """Tells on whoever unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    "content",
    [
        _python2_batch(_SMALL, [1, 0, 3, 2]),
        *(
            pickle.dumps({key(b"data"): _SMALL, key(b"labels"): [1, 0, 3, 2]}, 2)
            for key in (bytes, bytes.decode)
        ),
    ],
    ids=["python 2", "bytes", "text"],
)
def test_batches_of_python_2_and_3(content):
    data, labels = read_pickled_batch(content)
    assert data.dtype == np.uint8
    assert np.array_equal(data, _SMALL)
    assert labels.tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_calls_are_refused(protocol):
    batch = {"data": _SMALL, "labels": [1], "more": [_Trap()]}
    with _fails_like("cannot be unpickled (", ".* is not allowed"):
        read_pickled_batch(pickle.dumps(batch, protocol))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\n(S'exit 1'\ntR.", "os.system"),
        (b"(S'exit 1'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", "numpy.ndarray.dumps"),
        (b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
        (b"cnumpy.core.multiarray\nscalar\n.", "numpy.core.multiarray.scalar"),
    ],
)
def test_names_that_no_batch_needs_are_refused(content, name):
    with _fails_like("cannot be unpickled (", f".*{re.escape(name)} is not allowed"):
        read_pickled_batch(content)


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (b"", r"cannot be unpickled \(EOFError: Ran out of input"),
        (b"no pickle", r"cannot be unpickled \(UnpicklingError"),
        (b"Pname\n.", r"cannot be unpickled \(UnpicklingError"),
        (b"c_codecs\nencode\n(Va\nVrot13\ntR.", ".*encoding 'rot13' is not allowed"),
        (pickle.dumps([1, 2]), "must hold a dictionary, got list"),
        (pickle.dumps({"data": b""}), "'data' must be a uint8 array"),
        (pickle.dumps({"labels": []}), "the entry 'data' is missing"),
        (pickle.dumps({"data": _SMALL}, 2), "the entry 'labels' is missing"),
    ],
)
def test_content_that_is_no_batch(content, pattern):
    with _fails_like("", pattern):
        read_pickled_batch(content)


@pytest.mark.parametrize(
    "data",
    [
        _SMALL.astype(np.int8),
        _SMALL.astype(object),
        _SMALL.astype(float),
        np.asfortranarray(_SMALL),
        _SMALL.reshape(2, 3, 4),
        [[1, 2], [3, 4]],
    ],
)
def test_data_of_another_kind(data):
    with _fails("'data' must be a uint8 array [N, D] in C order"):
        read_pickled_batch(pickle.dumps({"data": data, "labels": []}, 2))


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ((1, 2), "be a list of whole numbers"),
        ([1, 2.0], "be a list of whole numbers"),
        ([1, True], "be a list of whole numbers"),
        ([1, 2**64], "fit into 64 bits"),
    ],
)
def test_labels_of_another_kind(labels, line):
    with _fails(f"'labels' must {line}"):
        read_pickled_batch(pickle.dumps({"data": _SMALL, "labels": labels}, 2))


@settings(deadline=None, derandomize=True)
@given(st.data())
def test_every_truncated_batch_is_refused_in_one_line(data):
    content = _python2_batch(_SMALL, [1, 0, 3, 2])
    with _fails_like("cannot be unpickled (", ""):
        read_pickled_batch(content[: data.draw(st.integers(0, len(content) - 1))])


# The paper's images, and the registry.


def _dataset() -> Dataset:
    arrays = _arrays()
    names = ("x_train", "y_train", "x_test", "y_test")
    return Dataset(*(arrays[name] for name in names), num_classes=10)


def test_centre_crop_and_mean_of_the_training_images():
    data = _dataset()
    cropped, mean_image = prepare_cifar10(data)
    assert np.array_equal(cropped.x_train, data.x_train[:, 4:28, 4:28, :])
    assert np.array_equal(cropped.x_test, data.x_test[:, 4:28, 4:28, :])
    assert cropped.x_train.dtype == cropped.x_test.dtype == np.uint8
    assert cropped.x_train.flags.c_contiguous
    assert cropped.y_train is data.y_train
    assert mean_image.shape == (24, 24, 3)
    assert mean_image.dtype == np.float32
    mean = np.mean(data.x_train[:, 6, 8, 1].astype(float))
    assert mean_image[2, 4, 1] == np.float32(mean)


def test_images_that_cannot_be_prepared():
    data = _dataset()
    with _fails(f"x_test {_NO_IMAGES} float32 [3, 32, 32, 3]"):
        prepare_cifar10(data._replace(x_test=data.x_test.astype(np.float32)))
    with _fails(f"x_train {_NO_IMAGES} uint8 [6, 24, 24, 3]"):
        prepare_cifar10(data._replace(x_train=data.x_train[:, 4:28, 4:28]))


def test_the_registry_prepares_as_the_paper_does(tmp_path):
    arrays = _arrays()
    _save(tmp_path, **arrays)
    data = load_dataset("cifar10", tmp_path)
    assert data.x_train.dtype == data.x_test.dtype == np.uint8
    assert np.array_equal(data.x_test, arrays["x_test"][:, 4:28, 4:28])
    assert data.mean_image is not None
    expected = arrays["x_train"][:, 4:28, 4:28].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(data.mean_image, expected, rtol=1e-6)
