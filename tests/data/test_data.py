"""Data sets, files of a user's own, and the record of the clients' data."""

import io
import os
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax import tree
from fedasync_jax.data import (
    DATASETS,
    Partition,
    iid,
    load_dataset,
    load_digits,
    load_npz,
    make_client_data,
    pool_clients,
)

_REPEATABLE = settings(deadline=None, derandomize=True)


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


# Digits.


def test_digits_have_the_promised_shapes_and_values():
    data = load_digits()
    assert data.x_train.shape == (1437, 8, 8, 1)
    assert data.x_test.shape == (360, 8, 8, 1)
    assert data.x_train.dtype == data.x_test.dtype == np.float32
    assert data.y_train.dtype == data.y_test.dtype == np.int32
    assert data.num_classes == 10
    assert data.x_train.min() == 0
    assert data.x_train.max() == 1
    assert set(data.y_train) == set(data.y_test) == set(range(10))


def test_digits_split_is_the_same_for_ever():
    data = load_digits()
    assert data.y_test[:10].tolist() == [5, 7, 6, 5, 7, 0, 5, 3, 4, 5]
    assert np.bincount(data.y_test).tolist() == [29, 28, 41, 35, 40, 47, 35, 42, 26, 37]


def test_digits_are_the_published_ones_bit_for_bit():
    """The sum of what was loaded when the rows came from scikit-learn's copy."""
    expected = "afbe59cee7ece44d87b1570bea53eeaf17b066410b558fcada66ce3e19361f91"
    assert tree.sha256(load_digits()[:4]) == expected


def test_another_split_has_the_same_digits_each_once():
    rows = []
    for data in (load_digits(), load_digits(test_fraction=0.5, seed=3)):
        x = np.concatenate([data.x_train, data.x_test]).reshape(1797, 64)
        y = np.concatenate([data.y_train, data.y_test])
        rows.append(sorted(np.column_stack([x, y]).tolist()))
    assert len(data.y_train) == 898
    assert rows[0] == rows[1]


@pytest.mark.parametrize("value", [0, -0.2, 1, 0.9999, np.nan])
def test_test_fraction_out_of_range(value):
    line = (
        "test_fraction must be > 0 and leave one of the 1797 samples for training, "
        f"got {value}"
    )
    with _fails(line):
        load_digits(test_fraction=value)


def test_test_fraction_at_its_ends():
    assert len(load_digits(test_fraction=1e-9).y_test) == 1
    assert len(load_digits(test_fraction=1796 / 1797).y_train) == 1


# The registry.


def test_every_registered_data_set_loads(tmp_path):
    folder = tmp_path / "cifar10"
    folder.mkdir()
    x, y = np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, int)
    paths = {
        "npz": _save(tmp_path, **_arrays()),
        "cifar10": _save(folder, x_train=x, y_train=y, x_test=x, y_test=y),
        "table": tmp_path / "own.csv",
        "leaf": tmp_path / "leaf",
    }
    paths["table"].write_text("size,label\n" + "1,0\n2,1\n" * 5)
    for part in ("train", "test"):
        (paths["leaf"] / part).mkdir(parents=True)
        text = '{"user_data": {"al": {"x": [[1.0, 2.0]], "y": [0]}}}'
        (paths["leaf"] / part / "data.json").write_text(text)
    for name in DATASETS:
        data = load_dataset(name, paths.get(name))
        assert len(data.x_train) == len(data.y_train)
        assert len(data.x_test) == len(data.y_test)
        is_uint8 = data.mean_image is not None
        assert data.x_train.dtype == (np.uint8 if is_uint8 else np.float32)


def test_unknown_data_set_lists_the_known_ones():
    with _fails(
        "data set must be one of digits, npz, table, leaf, cifar10, synthetic, "
        "tfds:NAME, got 'mnist'"
    ):
        load_dataset("mnist")


def test_a_path_belongs_to_npz_only():
    with _fails("data_path must be None for dataset digits, got 'x.npz'"):
        load_dataset("digits", "x.npz")
    with _fails("data_path must name an .npz file for dataset npz, got None"):
        load_dataset("npz")


# A user's own file.


def _arrays(**changes):
    """Six training and three test samples of three classes, in float64."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.normal(size=(6, 2, 2)),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": rng.normal(size=(3, 2, 2)),
        "y_test": np.array([0, 1, 2]),
    }
    return arrays | changes


def _save(folder, **arrays):
    path = folder / "own.npz"
    np.savez(path, **arrays)
    return path


def test_npz_keeps_values_and_converts_types(tmp_path):
    arrays = _arrays(y_test=np.array([0.0, 1.0, 2.0]), more=np.zeros(1))
    data = load_npz(_save(tmp_path, **arrays))
    assert np.array_equal(data.x_train, arrays["x_train"].astype(np.float32))
    assert np.array_equal(data.x_test, arrays["x_test"].astype(np.float32))
    assert data.y_train.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.y_test.tolist() == [0, 1, 2]
    assert [a.dtype.name for a in data[:4]] == ["float32", "int32"] * 2
    assert data.num_classes == 3


def test_npz_scales_uint8_and_nothing_else(tmp_path):
    images = np.array([[0, 51], [255, 1], [7, 8]], np.uint8)
    arrays = _arrays(x_train=np.repeat(images, 2, axis=0), x_test=images)
    data = load_npz(_save(tmp_path, **arrays))
    assert data.x_test.dtype == np.float32
    assert np.array_equal(data.x_test[:2], np.array([[0, 0.2], [1, 1 / 255]], "f4"))
    assert np.array_equal(np.rint(data.x_test * 255), images)
    as_int = {name: arrays[name].astype(np.int16) for name in ("x_train", "x_test")}
    data = load_npz(_save(tmp_path, **arrays | as_int))
    assert np.array_equal(data.x_test, images)


def test_npz_reads_compressed_files_and_paths_as_text(tmp_path):
    arrays = _arrays()
    np.savez_compressed(tmp_path / "own.npz", **arrays)
    data = load_npz(str(tmp_path / "own.npz"))
    assert np.array_equal(data.x_train, arrays["x_train"].astype(np.float32))


def test_num_classes_counts_the_labels_of_both_parts_or_is_given(tmp_path):
    path = _save(tmp_path, **_arrays(y_test=np.array([0, 7, 1])))
    assert load_npz(path).num_classes == 8
    assert load_npz(path, num_classes=9).num_classes == 9


@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_num_classes_out_of_range(tmp_path, value):
    with _fails(f"num_classes must be in 1..2147483647, got {value}"):
        load_npz(_save(tmp_path, **_arrays()), num_classes=value)


_ROWS_OF_6 = np.ones((6, 2, 2))
_ROWS_OF_3 = np.ones((3, 2, 2))


def _with(array: np.ndarray, row: int, value: float) -> np.ndarray:
    """Return a copy with one entry of one row changed."""
    changed = array.copy()
    changed[(row, *[0] * (array.ndim - 1))] = value
    return changed


@pytest.mark.parametrize(
    ("name", "array", "line"),
    [
        ("x_train", np.ones(6), "[N, ...] without zeros, got (6,)"),
        ("x_train", np.ones((6, 0)), "[N, ...] without zeros, got (6, 0)"),
        ("x_test", np.ones((0, 2, 2)), "[N, ...] without zeros, got (0, 2, 2)"),
        ("y_train", np.zeros((6, 1), int), "[N], N >= 1, got (6, 1)"),
        ("y_test", np.zeros(0, int), "[N], N >= 1, got (0,)"),
        ("y_test", np.array(1), "[N], N >= 1, got ()"),
    ],
)
def test_array_of_a_wrong_shape(tmp_path, name, array, line):
    path = _save(tmp_path, **_arrays(**{name: array}))
    with _fails(f"{path}: {name} must have a shape {line}"):
        load_npz(path)


@pytest.mark.parametrize(
    ("name", "array", "line"),
    [
        ("x_train", np.ones((6, 2), complex), "real numbers, got dtype complex128"),
        ("x_train", np.full((6, 2), "a"), "real numbers, got dtype <U1"),
        ("y_test", np.zeros(3, bool), "whole numbers, got dtype bool"),
        ("y_test", np.zeros(3, "M8[s]"), "whole numbers, got dtype datetime64[s]"),
    ],
)
def test_array_of_a_wrong_kind(tmp_path, name, array, line):
    path = _save(tmp_path, **_arrays(**{name: array}))
    with _fails(f"{path}: {name} must hold {line}"):
        load_npz(path)


@pytest.mark.parametrize(
    ("name", "array", "row"),
    [
        ("x_train", _with(_ROWS_OF_6, 4, np.nan), 4),
        ("x_test", _with(_ROWS_OF_3, 1, -np.inf), 1),
        ("x_test", _with(_with(_ROWS_OF_3, 2, np.nan), 0, 1e39), 0),
    ],
)
def test_first_row_that_is_not_finite(tmp_path, name, array, row):
    path = _save(tmp_path, **_arrays(**{name: array}))
    line = f"{name} must be finite in float32, got NaN or infinity in row {row}"
    with _fails(f"{path}: {line}"):
        load_npz(path)


@pytest.mark.parametrize(
    ("name", "array", "line"),
    [
        ("y_train", np.array([0, 1, 2, -1, 1, -2]), "got -1 in row 3"),
        ("y_train", np.array([0, 1, 2**40, 0, 1, 2]), "got 1099511627776 in row 2"),
        ("y_test", np.array([2**64 - 1, 1, 2], np.uint64), f"got {2**64 - 1} in row 0"),
        ("y_test", np.array([0, 0.5, 2]), "got 0.5 in row 1"),
        ("y_test", np.array([0, np.nan, 2]), "got nan in row 1"),
        ("y_test", np.array([0, 1, np.inf]), "got inf in row 2"),
    ],
)
def test_first_label_that_is_none(tmp_path, name, array, line):
    path = _save(tmp_path, **_arrays(**{name: array}))
    with _fails(f"{path}: {name} must hold whole numbers in 0..2147483646, {line}"):
        load_npz(path)


@pytest.mark.parametrize(
    ("name", "array", "line"),
    [
        (
            "x_train",
            np.ones((6, 2)),
            "x_train and x_test must have samples of one shape, got (2,) and (2, 2)",
        ),
        (
            "x_train",
            np.ones((5, 2, 2)),
            "x_train and y_train must have one length, got 5 and 6",
        ),
        (
            "y_test",
            np.array([0, 1]),
            "x_test and y_test must have one length, got 3 and 2",
        ),
        (
            "x_test",
            np.zeros((3, 2, 2), np.uint8),
            "x_train and x_test must both be uint8 or neither, got float64 and uint8",
        ),
    ],
)
def test_arrays_that_do_not_belong_together(tmp_path, name, array, line):
    path = _save(tmp_path, **_arrays(**{name: array}))
    with _fails(f"{path}: {line}"):
        load_npz(path)


def test_label_beyond_the_given_number_of_classes(tmp_path):
    path = _save(tmp_path, **_arrays())
    line = f"{path}: y_train must hold whole numbers in 0..1, got 2 in row 2"
    with _fails(line):
        load_npz(path, num_classes=2)


def test_missing_arrays_are_named(tmp_path):
    arrays = _arrays()
    del arrays["y_train"], arrays["x_test"]
    path = _save(tmp_path, **arrays)
    with _fails(f"{path}: the arrays y_train, x_test are missing"):
        load_npz(path)


def _fails_like(path, pattern: str):
    """Expect one line that begins with the path and goes on like the pattern."""
    return pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {pattern}[^\n]*$")


class _Trap:
    """Tells on whoever unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_pickled_objects_are_refused_unopened(tmp_path):
    path = tmp_path / "own.npz"
    traps = np.array([_Trap() for _ in range(3)], object)
    np.savez(path, allow_pickle=True, **_arrays(y_test=traps))
    with _fails_like(path, "y_test cannot be read .*Object arrays cannot be loaded"):
        load_npz(path)


def test_missing_file_and_folder(tmp_path):
    path = tmp_path / "none.npz"
    with _fails_like(path, "cannot be opened as an .npz file .*No such file"):
        load_npz(path)
    with _fails_like(tmp_path, "cannot be opened as an .npz file .*a regular file"):
        load_npz(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"PK\x03\x04", b"\x80\x04N."])
def test_file_of_another_kind(tmp_path, content):
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with _fails_like(path, "cannot be opened as an .npz file .*not a zip file"):
        load_npz(path)


def test_single_array_under_a_wrong_name(tmp_path):
    path = tmp_path / "own.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with _fails_like(path, "cannot be opened as an .npz file .*not a zip file"):
        load_npz(path)


def test_member_that_is_no_array(tmp_path):
    path = _save(tmp_path, **_arrays())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["x_test.npy"] = b"no array"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with _fails_like(path, "x_test cannot be read"):
        load_npz(path)


def test_array_with_bytes_after_its_end(tmp_path):
    path = _save(tmp_path, **_arrays())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["x_test.npy"] += b"more"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with _fails_like(path, "x_test cannot be read .*bytes after the end"):
        load_npz(path)


@pytest.fixture(scope="module", params=[np.savez, np.savez_compressed])
def stored(request, tmp_path_factory):
    """A good file's bytes, and where damaged copies go."""
    buffer = io.BytesIO()
    request.param(buffer, **_arrays())
    return buffer.getvalue(), tmp_path_factory.mktemp("damaged") / "own.npz"


@settings(_REPEATABLE)
@given(st.data())
def test_every_truncated_file_is_refused_in_one_line(stored, data):
    content, path = stored
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with _fails_like(path, "cannot be opened as an .npz file"):
        load_npz(path)


@settings(_REPEATABLE, max_examples=300)
@given(st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_byte_is_told_in_one_line_or_was_harmless(stored, data):
    content, path = stored
    damaged = bytearray(content)
    position = data.draw(st.integers(0, len(content) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    try:
        loaded = load_npz(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
    else:
        for name, array in _arrays().items():
            assert np.array_equal(getattr(loaded, name), array.astype("f4"))


# Clients.


def _partition(indices, counts) -> Partition:
    return Partition(np.asarray(indices), np.asarray(counts))


def test_client_data_addresses_the_rows_of_every_client():
    arrays = {"x": np.arange(12).reshape(6, 2), "y": np.arange(6)}
    data = make_client_data(arrays, _partition([5, 0, 1, 4, 3, 2], [2, 1, 3]))
    assert data.offsets.tolist() == [0, 2, 3]
    rows = [
        data.arrays["y"][data.indices[o : o + n]].tolist()
        for o, n in zip(data.offsets, data.counts, strict=True)
    ]
    assert rows == [[5, 0], [1], [4, 3, 2]]
    for field in (data.indices, data.offsets, data.counts):
        assert field.dtype == np.int32


def test_client_data_copies_no_samples_and_takes_device_arrays():
    x = np.zeros((4, 3))
    data = make_client_data((x, jnp.arange(4)), iid(4, 2, rng=np.random.default_rng(0)))
    assert data.arrays[0] is x
    assert isinstance(data.arrays[1], np.ndarray)


def test_clients_may_share_rows_and_leave_some_out():
    data = make_client_data(np.zeros(5), _partition([0, 1, 1, 2], [2, 2]))
    assert data.indices.tolist() == [0, 1, 1, 2]


def test_pooled_clients_are_passes_over_all_rows_cut_into_tasks():
    arrays = np.arange(6.0)
    data = make_client_data(arrays, _partition([5, 0, 1, 4], [2, 2]))
    pooled = pool_clients(data, np.full(5, 2), rng=np.random.default_rng(0))
    assert pooled.arrays is data.arrays
    passes = np.asarray(pooled.indices)[:8].reshape(2, 4)
    assert np.array_equal(np.sort(passes, axis=1), [[0, 1, 4, 5]] * 2)
    assert passes[0].tolist() != passes[1].tolist()  # reshuffled
    assert len(pooled.indices) == 10 and set(pooled.indices[8:]) <= {0, 1, 4, 5}
    assert pooled.offsets.tolist() == [0, 2, 4, 6, 8]
    assert pooled.counts.tolist() == [2] * 5
    for leaf in pooled[1:]:
        assert leaf.dtype == np.int32


def test_pooled_clients_may_be_drawn_with_replacement():
    data = make_client_data(np.zeros(4), _partition([0, 1, 2], [3]))
    rng = np.random.default_rng(0)
    rows = pool_clients(data, np.full(100, 3), replacement=True, rng=rng).indices
    assert set(rows) == {0, 1, 2}
    assert any(len(set(task)) < 3 for task in np.reshape(rows, (100, 3)))


def test_pooled_clients_may_differ_in_size():
    data = make_client_data(np.zeros(4), _partition([0, 1, 2], [3]))
    pooled = pool_clients(data, np.array([2, 1, 3]), rng=np.random.default_rng(0))
    assert pooled.offsets.tolist() == [0, 2, 3] and pooled.counts.tolist() == [2, 1, 3]
    assert sorted(pooled.indices.tolist()) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("sizes", [[], [2, 0], [2**16] * 2**15])
def test_pooled_clients_refuse_numbers_out_of_range(sizes):
    data = make_client_data(np.zeros(4), _partition([0, 1, 2], [3]))
    with pytest.raises(ValueError, match="samples_per_task must be >= 1 each"):
        pool_clients(data, np.array(sizes), rng=np.random.default_rng(0))


_HUGE = np.broadcast_to(np.zeros(1, np.int8), (2**31,))  # one byte of memory


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        (
            {"x": np.zeros((3, 2)), "y": np.zeros(4)},
            "shapes arrays['x'] (3, 2), arrays['y'] (4,)",
        ),
        (np.array(1.0), "shapes arrays ()"),
        (np.zeros((0, 2)), "shapes arrays (0, 2)"),
        ({}, "shapes of no array"),
        (_HUGE, "shapes arrays (2147483648,)"),
    ],
)
def test_arrays_without_a_common_length(arrays, found):
    line = f"arrays must share one leading length in 1..2147483647, got {found}"
    with _fails(line):
        make_client_data(arrays, _partition([0], [1]))


_KIND = "must be a one-dimensional array of integers, got"


@pytest.mark.parametrize(
    ("indices", "counts", "line"),
    [
        ([0, 3, 1], [3], "indices must be in 0..2, got 3 at position 1"),
        ([0, 1, -1], [3], "indices must be in 0..2, got -1 at position 2"),
        ([2**32, 1], [2], "indices must be in 0..2, got 4294967296 at position 0"),
        ([0.0, 1.0], [2], f"indices {_KIND} shape (2,), dtype float64"),
        ([[0], [1]], [2], f"indices {_KIND} shape (2, 1), dtype int64"),
        (_HUGE, [2], "indices must have 1..2147483647 entries, got 2147483648"),
        ([0, 1], [2.0], f"counts {_KIND} shape (1,), dtype float64"),
        ([0, 1], _HUGE[:0], "counts must have 1..2147483647 entries, got 0"),
        ([0, 1], [1, 0, 1], "counts must be in 1..2, got 0 at position 1"),
        ([0, 1], [3], "counts must be in 1..2, got 3 at position 0"),
        ([0, 1, 2], [1, 1], "counts must sum to 3 (the number of indices), got 2"),
    ],
)
def test_bad_partition_is_told_in_one_line(indices, counts, line):
    with _fails(line):
        make_client_data(np.zeros(3), _partition(indices, counts))


# What the device cannot hold


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        (
            {"x": [np.zeros(3, np.float32)] * 3},
            "arrays['x'] must be an array [N, ...], got a list of length 3 (np.stack "
            "makes an array of a list of rows)",
        ),
        (
            {"x": np.array(["a", "b", "c"])},
            "arrays['x'] must hold numbers, got dtype <U1",
        ),
        (
            {"x": np.array([1, None, 2], dtype=object)},
            "arrays['x'] must hold numbers, got dtype object",
        ),
        (
            {"x": np.zeros(3, "datetime64[s]")},
            "arrays['x'] must hold numbers, got dtype datetime64[s]",
        ),
        (
            {"x": jax.random.split(jax.random.key(0), 3)},
            "arrays['x'] must hold numbers, got random keys",
        ),
        (
            {"x": np.array([0, 2**31, 1])},
            "arrays['x'] must hold numbers in -2147483648..2147483647 (int32, unless "
            "jax_enable_x64 is set), got 2147483648",
        ),
        (
            {"x": np.array([np.nan, np.inf, 1e39])},
            "arrays['x'] must hold numbers in "
            "-3.4028234663852886e+38..3.4028234663852886e+38 (float32, unless "
            "jax_enable_x64 is set), got 1e+39",
        ),
    ],
)
def test_leaf_that_the_device_cannot_hold(arrays, line):
    with _fails(line):
        make_client_data(arrays, _partition([0, 1, 2], [3]))


@pytest.mark.parametrize(
    "leaf",
    [
        np.array([0, 2**31 - 1, -(2**31)]),
        np.array([np.nan, np.inf, 1e38]),
        np.array([True, False, True]),
    ],
)
def test_leaf_that_the_device_holds_is_kept(leaf):
    kept = make_client_data({"x": leaf}, _partition([0, 1, 2], [3])).arrays["x"]
    assert kept is leaf


def test_a_long_list_of_shapes_is_cut():
    leaves = tuple(np.zeros(size + 1) for size in range(300))
    with pytest.raises(ValueError, match=r"\.\.\.$") as error:
        make_client_data(leaves, _partition([0], [1]))
    assert len(str(error.value)) <= 300


# Files that lie


@pytest.mark.parametrize("largest", [1000, 310_000_007])
def test_labels_that_are_identifiers(tmp_path, largest):
    path = _save(tmp_path, **_arrays(y_test=np.array([0, largest, 1])))
    with _fails_like(
        path,
        rf"y_train and y_test .* got \d different labels, of which the largest, "
        rf"{largest}, implies {largest + 1} classes .*",
    ):
        load_npz(path)


def test_few_of_many_classes_are_no_identifiers(tmp_path):
    path = _save(tmp_path, **_arrays(y_test=np.array([0, 999, 1])))
    assert load_npz(path).num_classes == 1000


def test_an_array_that_its_member_cannot_hold_is_not_made(tmp_path):
    path = _save(tmp_path, **_arrays())
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**10)}
    )
    with zipfile.ZipFile(path, "r") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "x_train.npy": header.getvalue()}.items():
            archive.writestr(name, content)
    with _fails_like(
        path, "x_train cannot be read .* need 9007199254740992 bytes, got"
    ):
        load_npz(path)


def test_a_pipe_is_no_data_set(tmp_path):
    os.mkfifo(tmp_path / "data.npz")
    with _fails_like(tmp_path / "data.npz", "cannot be opened .* a regular file"):
        load_npz(tmp_path / "data.npz")
