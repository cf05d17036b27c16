"""LEAF: users with vectors or with texts, and files that are none."""

import json
import re

import numpy as np
import pytest

from fedasync_jax.data import deal_leaf_text, load_dataset, load_leaf, natural
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


def write(folder, train, test):
    """Write parts, each a list of files, each of users and their samples."""
    for name, files in (("train", train), ("test", test)):
        (folder / name).mkdir(parents=True)
        for number, users in enumerate(files):
            content = {
                "users": list(users),
                "num_samples": [len(y) for _, y in users.values()],
                "user_data": {u: {"x": x, "y": y} for u, (x, y) in users.items()},
            }
            path = folder / name / f"all_data_{number}_niid_0_keep_0_{name}_9.json"
            path.write_text(json.dumps(content))
    return folder


@pytest.fixture
def femnist(tmp_path):
    """Three writers in two files; the grey of an image says whose it is."""

    def image(grey):
        return [grey] * 784

    return write(
        tmp_path,
        [
            {"f3": ([image(0.1), image(0.2)], [5, 0]), "f1": ([image(0.3)], [61])},
            {"f0": ([image(0.4)], [7])},
        ],
        [{"f1": ([image(0.5)], [1]), "f9": ([], [])}],
    )


def test_images_of_users(femnist):
    data = load_dataset("leaf", femnist)
    assert data.x_train.shape == (4, 28, 28, 1) and data.x_train.dtype == np.float32
    np.testing.assert_allclose(data.x_train[:, 3, 4, 0], [0.1, 0.2, 0.3, 0.4])
    assert data.y_train.tolist() == [5, 0, 61, 7] and data.y_test.tolist() == [1]
    assert data.num_classes == 62
    assert data.client_train is not None
    assert data.client_train.tolist() == ["f3", "f3", "f1", "f0"]
    assert natural(data.client_train).counts.tolist() == [1, 1, 2]


def test_users_are_the_clients_of_an_experiment(tmp_path):
    rng = np.random.default_rng(0)

    def users(count):
        return {
            f"u{i}": (rng.normal(size=(3, 60)).tolist(), [0, 1, i % 10])
            for i in range(count)
        }

    folder = write(tmp_path / "synthetic", [users(5), users(4)], [users(2)])
    settings = make_settings(
        dataset="leaf",
        data_path=folder,
        partition="natural",
        num_clients=4,
        concurrency=2,
        clients_per_round=2,
        num_updates=4,
        methods=("delta", "fedavg"),
    )
    workload = build_experiment(settings).workload
    assert len(workload.counts) == 4
    assert sorted(workload.counts) == [3, 6, 6, 6] or set(workload.counts) == {6}


def test_texts_of_users(tmp_path):
    folder = write(
        tmp_path,
        [{"HAMLET": (["to b", "o be"], ["e", "!"]), "LEAR": (["ebbe"], ["t"])}],
        [{"HAMLET": (["be z"], ["o"])}],
    )
    texts = deal_leaf_text(folder, num_clients=1)
    assert texts.vocab_size == len(set("to be!")) + 1
    letters = sorted(set("to be!"))
    train = np.asarray(texts.train["x"])
    assert [letters[i] for i in train[0]] == list("to b")
    assert [letters[i] for i in texts.train["y"][0]] == list("o be")
    assert [letters[i] for i in texts.train["y"][1]] == list(" be!")
    assert texts.test["x"][0].tolist() == [letters.index(c) for c in "be "] + [6]
    assert texts.partition.indices.tolist() == [0, 1]
    assert texts.partition.counts.tolist() == [2]
    two = deal_leaf_text(folder, num_clients=2)
    assert two.partition.indices.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("users", "words"),
    [
        (
            {"a": ([[1.0, 2.0], [1.0]], [0, 1])},
            "train: x must hold vectors of one",
        ),
        (
            {"a": ([[1.0]], ["b"])},
            "train: x must hold vectors of one length and y",
        ),
        ({"a": (["text"], ["b"])}, "train: x must hold vectors of one length and y"),
        ({"a": ([[1.0]], [0.5])}, "y_train must hold whole numbers in 0..2147483646"),
        ({"a": ([], [])}, "train: x must hold vectors of one length"),
    ],
)
def test_what_is_no_classification_set_is_one_line(tmp_path, users, words):
    write(tmp_path, [users], [users])
    with pytest.raises(ValueError) as error:
        load_leaf(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: {words}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "users",
    [
        {"a": (["abc", "ab"], ["d", "c"])},
        {"a": (["abc"], ["de"])},
        {"a": ([[1.0]], [0])},
        {"a": ([], [])},
    ],
)
def test_what_is_no_text_is_one_line(tmp_path, users):
    write(tmp_path, [users], [users])
    with _fails(
        f"{tmp_path}: train: x must hold texts of one length and y one character each, "
        "got others (numbers are the data set leaf)"
    ):
        deal_leaf_text(tmp_path, 1)


def test_damaged_files(tmp_path, femnist):
    with pytest.raises(ValueError, match=r"^data_path \(--data-path\) must name a"):
        load_leaf(None)
    with _fails(f"{tmp_path / 'no'} must hold train/*.json, got no such file"):
        load_leaf(tmp_path / "no")
    (file,) = (femnist / "test").glob("*.json")
    for text in ("{", "[]", '{"user_data": {"a": {"x": 3, "y": []}}}'):
        file.write_text(text)
        with pytest.raises(ValueError) as error:
            load_leaf(femnist)
        assert str(error.value).startswith(f"{file}: cannot be read (")
    file.write_text('{"user_data": {"a": {"x": [1], "y": []}}}')
    with _fails(f"{file}: x and y of user 'a' must have one length, got 1 and 0"):
        load_leaf(femnist)


def test_what_does_not_fit_into_memory_is_one_line(femnist, monkeypatch):
    monkeypatch.setattr("fedasync_jax.parts.memory.physical_memory", lambda: 100)
    with pytest.raises(ValueError, match=r"^data_path must fit into memory, 0\.0 GB"):
        load_leaf(femnist)
