"""Natural partitions: keys become clients, from a user's file to the partition."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax.data import Partition, load_npz, make_client_data, natural

_REPEATABLE = settings(deadline=None, derandomize=True)


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


def _clients(partition: Partition) -> list[list[int]]:
    """Rows of every client, in their order."""
    parts = np.split(partition.indices, np.cumsum(partition.counts)[:-1])
    return [part.tolist() for part in parts]


# Golden examples.


@pytest.mark.parametrize(
    "keys",
    [
        [30, -5, 30, 7, -5, 30],
        ["z", "a", "z", "b", "a", "z"],
        [b"z", b"a", b"z", b"b", b"a", b"z"],
        np.array([2**64 - 1, 0, 2**64 - 1, 2**63, 0, 2**64 - 1], np.uint64),
    ],
)
def test_clients_are_the_keys_in_their_order(keys):
    part = natural(np.array(keys))
    assert _clients(part) == [[1, 4], [3], [0, 2, 5]]
    assert part.indices.dtype == part.counts.dtype == np.int32


@pytest.mark.parametrize(
    ("num_clients", "expected"),
    [
        (1, [[0, 2, 5]]),
        (2, [[1, 4], [0, 2, 5]]),
        (3, [[1, 4], [3, 6], [0, 2, 5]]),
        (4, [[1, 4], [3, 6], [0, 2, 5], [7]]),
    ],
)
def test_keys_of_most_samples_and_of_equal_ones_the_first(num_clients, expected):
    keys = np.array([30, -5, 30, 7, -5, 30, 7, 31])
    assert _clients(natural(keys, num_clients=num_clients)) == expected


# Properties.


@settings(_REPEATABLE)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.data())
def test_against_a_dictionary(keys, data):
    rows: dict[int, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    assert _clients(natural(np.array(keys))) == [rows[key] for key in sorted(rows)]
    num_clients = data.draw(st.integers(1, len(rows)))
    most = sorted(rows, key=lambda key: (-len(rows[key]), key))[:num_clients]
    part = natural(np.array(keys), num_clients=num_clients)
    assert _clients(part) == [rows[key] for key in sorted(most)]


def test_client_data_take_natural_clients_and_leave_rows_out():
    part = natural(np.array([4, 9, 9, 1, 9, 4]), num_clients=2)
    data = make_client_data(np.zeros((6, 3)), part)
    assert data.indices.tolist() == [0, 5, 1, 2, 4]
    assert data.offsets.tolist() == [0, 2]


# Errors.


@pytest.mark.parametrize(
    "keys",
    [
        np.zeros((4, 1), int),
        np.zeros(4),
        np.array(3),
        np.zeros(4, bool),
        np.array(["a", 3], object),
    ],
)
def test_keys_of_a_wrong_kind(keys):
    line = (
        "keys must be a one-dimensional array of integers or strings, "
        f"got shape {keys.shape}, dtype {keys.dtype}"
    )
    with _fails(line):
        natural(keys)


def test_no_keys():
    with _fails("num_samples must be in 1..2147483647, got 0"):
        natural(np.zeros(0, int))


@pytest.mark.parametrize("value", [0, -1, 4, 2.5])
def test_number_of_clients_out_of_range(value):
    line = f"num_clients must be in 1..3 (the number of different keys), got {value}"
    with _fails(line):
        natural(np.array([5, 6, 5, 7]), num_clients=value)


# A user's file.


def _save(folder, **arrays):
    path = folder / "own.npz"
    x, y = np.ones((6, 2), np.float32), np.array([0, 1, 2, 0, 1, 2])
    np.savez(
        path, allow_pickle=True, x_train=x, y_train=y, x_test=x, y_test=y, **arrays
    )
    return path


def test_a_file_without_keys_has_none(tmp_path):
    assert load_npz(_save(tmp_path)).client_train is None


@pytest.mark.parametrize(
    "keys",
    [
        np.array([7, 7, 3, 3, 3, -1], np.int16),
        np.array(["bob", "bob", "al", "al", "al", "å"]),
        np.array([b"bob", b"bob", b"al", b"al", b"al", b""]),
    ],
)
def test_keys_of_a_file_arrive_as_they_are(tmp_path, keys):
    found = load_npz(_save(tmp_path, client_train=keys)).client_train
    assert found is not None
    assert found.dtype == keys.dtype
    assert np.array_equal(found, keys)
    assert sorted(_clients(natural(found))) == [[0, 1], [2, 3, 4], [5]]


def test_keys_of_a_file_and_its_samples_have_one_length(tmp_path):
    path = _save(tmp_path, client_train=np.zeros(5, int))
    line = "x_train and client_train must have one length, got 6 and 5"
    with _fails(f"{path}: {line}"):
        load_npz(path)


@pytest.mark.parametrize("keys", [np.zeros((6, 1), int), np.zeros(6), np.zeros(6, "?")])
def test_keys_of_a_file_of_a_wrong_kind(tmp_path, keys):
    path = _save(tmp_path, client_train=keys)
    line = (
        "client_train must be a one-dimensional array of integers or strings, "
        f"got shape {keys.shape}, dtype {keys.dtype}"
    )
    with _fails(f"{path}: {line}"):
        load_npz(path)


class _Trap:
    """Tells on whoever unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_pickled_keys_are_refused_unopened(tmp_path):
    path = _save(tmp_path, client_train=np.array([_Trap() for _ in range(6)], object))
    pattern = "client_train cannot be read .*Object arrays cannot be loaded[^\n]*$"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {pattern}"):
        load_npz(path)
