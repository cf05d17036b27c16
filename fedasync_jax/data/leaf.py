"""The JSON files of LEAF: samples by user, who become the clients.

``DIR/train/*.json`` and ``DIR/test/*.json``, each ``{"users": [..], "user_data": {user:
{"x": [..], "y": [..]}}}``. FEMNIST and Synthetic have vectors and labels, Shakespeare
has windows of characters and the one that follows.

Reference: Caldas et al., "LEAF: A Benchmark for Federated Settings", arXiv 1812.01097.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from fedasync_jax.data.dataset import Dataset, Texts
from fedasync_jax.data.npz import make_dataset
from fedasync_jax.data.partition.by_key import natural
from fedasync_jax.parts.bounds import shorten
from fedasync_jax.parts.files import open_regular
from fedasync_jax.parts.memory import check_fits

_FEMNIST = (28, 28, 1)  # stored as 784 numbers
_LONGEST_NUMBER = 20  # characters of one, which takes 4 bytes in memory

Folder = str | os.PathLike[str] | None


class _UserData(msgspec.Struct):
    x: list[Any]
    y: list[Any]


class _File(msgspec.Struct):
    user_data: dict[str, _UserData]


class _Samples(NamedTuple):
    """Samples of all users, one after the other, and their owners."""

    x: np.ndarray
    y: np.ndarray
    users: np.ndarray


def load_leaf(path: Folder) -> Dataset:
    """Load vectors and labels; vectors of 784 numbers are images [28, 28, 1].

    Args:
      path: the folder with ``train`` and ``test``.

    Raises:
      ValueError: in one line, if files are missing, damaged or of another kind.

    Returns:
      float32 samples, whose ``client_train`` are the users: with the natural partition
      a user is a client.
    """
    parts = _read_parts(path)
    try:
        train, test = (_to_numbers(name, part) for name, part in parts)
        stored = {
            "x_train": train.x,
            "y_train": train.y,
            "x_test": test.x,
            "y_test": test.y,
            "client_train": train.users,
        }
        return make_dataset(stored, None)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def deal_leaf_text(path: Folder, num_clients: int) -> Texts:
    """Return windows of characters; a client is a user.

    A window x_1 .. x_L and the next character y become the tokens x_1 .. x_L and those
    that follow them, x_2 .. x_L, y. Characters are numbered as those of the training
    text in the order of their code points, and all others are one more.

    Args:
      path: the folder with ``train`` and ``test``.
      num_clients: C, the users with the most samples.

    Raises:
      ValueError: in one line, if files are missing, damaged or of another kind.
    """
    parts = _read_parts(path)
    try:
        (train, owners), (test, _) = (_to_codes(name, part) for name, part in parts)
        known = np.unique(train)
        partition = natural(owners, num_clients=num_clients)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    train, test = (_to_tokens(codes, known) for codes in (train, test))
    return Texts(
        train={"x": train[:, :-1], "y": train[:, 1:]},
        test={"x": test[:, :-1], "y": test[:, 1:]},
        valid=None,
        vocab_size=len(known) + 1,
        partition=partition,
        unit="windows",
        columns=None,
    )


def _read_parts(path: Folder) -> list[tuple[str, list[tuple[str, _UserData]]]]:
    """Return the users and their data of both parts, in the order of the files."""
    if path is None:
        raise ValueError(
            "data_path (--data-path) must name a folder with train and test for a data "
            "set of LEAF, got None"
        )
    folder = Path(path)
    files = {name: sorted((folder / name).glob("*.json")) for name in ("train", "test")}
    for name, found in files.items():
        if not found:
            raise ValueError(f"{folder} must hold {name}/*.json, got no such file")
    sizes = [file.stat().st_size for found in files.values() for file in found]
    check_fits("data_path", folder, sum(sizes) * 4 // _LONGEST_NUMBER)
    return [
        (name, [pair for file in found for pair in _read_users(file)])
        for name, found in files.items()
    ]


def _read_users(file: Path) -> Iterator[tuple[str, _UserData]]:
    try:
        with open_regular(file) as stored:
            content = msgspec.json.decode(stored.read(), type=_File)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"{file}: cannot be read ({shorten(str(error))})") from error
    for user, data in content.user_data.items():
        if len(data.x) != len(data.y):
            raise ValueError(
                f"{file}: x and y of user {user!r} must have one length, got "
                f"{len(data.x)} and {len(data.y)}"
            )
        if data.x:
            yield user, data


def _to_numbers(name: str, users: list[tuple[str, _UserData]]) -> _Samples:
    try:
        x = np.concatenate([np.array(data.x, np.float32) for _, data in users])
        y = np.concatenate([np.array(data.y, np.float64) for _, data in users])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name}: x must hold vectors of one length and y labels, got others "
            f"({shorten(str(error), 80)}); texts are the data set leaf-text"
        ) from error
    if x.shape[1:] == (np.prod(_FEMNIST),):
        x = x.reshape(-1, *_FEMNIST)
    owners = np.repeat([user for user, _ in users], [len(data.x) for _, data in users])
    return _Samples(x, y, owners)


def _to_codes(
    name: str, users: list[tuple[str, _UserData]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return code points uint32 [N, L + 1], and the owner of each window."""
    texts = [
        (u, x, y) for u, data in users for x, y in zip(data.x, data.y, strict=True)
    ]
    is_text = all(isinstance(x, str) and isinstance(y, str) for _, x, y in texts)
    lengths = {(len(x), len(y)) for _, x, y in texts} if is_text else set()
    if len(lengths) != 1 or lengths.pop()[1] != 1:
        raise ValueError(
            f"{name}: x must hold texts of one length and y one character each, got "
            "others (numbers are the data set leaf)"
        )
    joined = "".join(x + y for _, x, y in texts)
    codes = np.frombuffer(joined.encode("utf-32-le"), "<u4").reshape(len(texts), -1)
    return codes, np.array([user for user, _, _ in texts])


def _to_tokens(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
    places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where(known[places] == codes, places, len(known)).astype(np.int32)
