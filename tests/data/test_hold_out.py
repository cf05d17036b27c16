"""Validation samples: held out of the training samples, the same for every seed."""

import numpy as np
import pytest

from fedasync_jax import data
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.runner import run_method

TINY = {"num_updates": 20, "eval_every": 10, "hidden": (4,), "methods": ("delta",)}


def make_dataset(n=10):
    x = np.arange(n, dtype=np.float32)[:, None]
    return data.Dataset(x, np.arange(n) % 3, x[:2], np.zeros(2, np.int32), 3)


def test_training_and_validation_share_nothing_and_lose_nothing():
    dataset = make_dataset()._replace(client_train=np.arange(10) * 7)
    held = data.hold_out(dataset, 0.25)
    assert held.x_valid is not None and held.y_valid is not None
    assert held.client_train is not None
    rows = np.concatenate([held.x_train, held.x_valid]).ravel()
    assert len(held.x_valid) == 3 and sorted(rows) == list(range(10))
    assert np.array_equal(held.y_train, held.x_train.ravel() % 3)
    assert np.array_equal(held.y_valid, held.x_valid.ravel() % 3)
    assert np.array_equal(held.client_train, held.x_train.ravel() * 7)
    assert np.array_equal(held.x_test, dataset.x_test)


def test_it_is_the_same_split_every_time_and_none_without_a_share():
    dataset = make_dataset()
    once, again = (data.hold_out(dataset, 0.3) for _ in range(2))
    assert np.array_equal(once.x_train, again.x_train)
    assert data.hold_out(dataset, 0.0) is dataset


def test_one_training_sample_must_be_left():
    with pytest.raises(ValueError, match=r"valid_share must leave one of 10 .* 0.95"):
        data.hold_out(make_dataset(), 0.95)


def make_texts(counts, valid=None):
    n = sum(counts)
    x = np.arange(n, dtype=np.int32)[:, None]
    order = np.random.default_rng(0).permutation(n).astype(np.int32)
    return data.Texts(
        {"x": x, "y": x + 1},
        {"x": x, "y": x},
        valid,
        99,
        data.Partition(order, np.array(counts, np.int32)),
        "windows",
        None,
    )


def test_every_client_gives_its_share_of_a_text_and_keeps_the_rest():
    texts = make_texts([10, 3, 1])
    held = data.hold_out_texts(texts, 0.4)
    assert held.partition.counts.tolist() == [6, 2, 1] and held.valid is not None
    before = np.split(texts.partition.indices, [10, 13])
    after = np.split(held.train["x"][held.partition.indices, 0], [6, 8])
    for owned, kept in zip(before, after, strict=True):
        assert set(kept) <= set(owned.tolist())
    rows = np.concatenate([held.train["x"], held.valid["x"]]).ravel()
    assert sorted(rows) == list(range(14))
    assert np.array_equal(held.valid["y"], held.valid["x"] + 1)


def test_a_text_with_its_own_validation_part_or_too_little_of_it_is_refused():
    texts = make_texts([4], valid={"x": np.zeros((1, 1), np.int32)})
    with pytest.raises(ValueError, match=r"valid_share must be 0 .* got 0.2"):
        data.hold_out_texts(texts, 0.2)
    with pytest.raises(ValueError, match=r"must hold out a sample .* got 0.1 .* 4"):
        data.hold_out_texts(make_texts([4, 2]), 0.1)


def test_metrics_of_a_run_have_loss_and_accuracy_of_the_held_out_samples():
    experiment = build_experiment(make_settings(**TINY, valid_share=0.5))
    row = run_method(experiment, experiment.methods[0]).rows[-1]
    dataset = data.hold_out(data.load_digits(), 0.5)
    assert dataset.x_valid is not None
    assert int(experiment.workload.counts.sum()) == len(dataset.x_train)
    scaled = row["valid_accuracy"] * len(dataset.x_valid)
    assert np.isclose(scaled, round(scaled), atol=1e-3) and row["valid_loss"] > 0
    assert row["valid_accuracy"] != row["test_accuracy"]


def test_the_plateau_may_look_at_held_out_samples():
    settings = make_settings(**TINY, plateau_factor=0.5, valid_share=0.2)
    assert settings["plateau_on"] == "validation"
    with pytest.raises(ValueError, match="plateau_on must be test, or valid_share"):
        make_settings(**TINY, plateau_factor=0.5)
