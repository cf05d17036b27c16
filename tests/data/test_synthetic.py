"""Synthetic(alpha, beta) against its definition, and pooled images."""

import numpy as np
import pytest

from fedasync_jax import data
from fedasync_jax.data.cifar10.pooling import pool_images
from fedasync_jax.experiment.build import build_workload
from fedasync_jax.experiment.presets import make_settings


def of_clients(dataset, num_clients):
    return [dataset.x_train[dataset.client_train == k] for k in range(num_clients)]


def test_sizes_shapes_and_split():
    dataset = data.make_synthetic(30)
    assert dataset.client_train is not None
    sizes = np.bincount(dataset.client_train, minlength=30)
    assert dataset.x_train.shape[1:] == (60,) and dataset.x_train.dtype == np.float32
    assert len(sizes) == 30 and sizes.min() >= 45  # nine tenths of 50
    assert np.log(sizes).std() > 0.5  # few clients have most of the samples
    share = len(dataset.x_test) / (len(dataset.x_test) + len(dataset.x_train))
    assert 0.1 <= share < 0.12 and set(dataset.y_train) <= set(range(10))


def test_sizes_and_centres_follow_their_laws():
    dataset = data.make_synthetic(150, beta=0, seed=1)
    parts = of_clients(dataset, 150)
    # Nine tenths of 50 + floor(exp(4 + 2 z)) are trained on; z ~ N(0, 1).
    logs = np.log([len(part) / 0.9 - 49.5 for part in parts])
    assert abs(logs.mean() - 4) < 0.5 and abs(logs.std() - 2) < 0.4
    centres = np.array([part.mean(axis=0) for part in parts])  # ~ N(0, 1) each
    assert abs(centres.mean()) < 0.05 and abs(centres.std() - 1) < 0.05


def test_inputs_have_the_variance_of_the_paper():
    dataset = data.make_synthetic(20, seed=3)
    largest = max(of_clients(dataset, 20), key=len)
    expected = np.arange(1, 61) ** -1.2
    assert np.allclose(largest.var(axis=0), expected, rtol=0.35)


def test_beta_moves_the_centres_and_alpha_cancels_in_the_labels():
    near, far = (
        data.make_synthetic(40, alpha=0, beta=beta, seed=5) for beta in (0.0, 25.0)
    )
    spread = [
        np.std([x.mean() for x in of_clients(dataset, 40)]) for dataset in (near, far)
    ]
    # The mean of a centre over 60 dimensions has the variance beta + 1/60.
    assert spread[0] < 0.3 and 3.5 < spread[1] < 6.5
    same, others = data.make_synthetic(40, 0, 0), data.make_synthetic(40, 9, 0)
    assert np.array_equal(same.y_train, others.y_train)


def test_alike_clients_have_one_linear_labelling():
    dataset = data.make_synthetic(10, iid=True)
    x = np.concatenate([dataset.x_train, np.ones((len(dataset.x_train), 1))], axis=1)
    one_hot = np.eye(10)[dataset.y_train]
    weights, *_ = np.linalg.lstsq(x, one_hot, rcond=None)
    hits = np.argmax(x @ weights, axis=1) == dataset.y_train
    firsts, rest = hits[dataset.client_train == 0], hits[dataset.client_train != 0]
    assert hits.mean() > 0.6 and abs(firsts.mean() - rest.mean()) < 0.2
    centres = [abs(part.mean(axis=0)).max() for part in of_clients(dataset, 10)]
    assert max(centres) < 0.6


def test_the_data_depend_on_their_own_seed_alone():
    one, same, other = (data.make_synthetic(5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.x_train, same.x_train)
    assert not np.array_equal(one.x_test[:5], other.x_test[:5])


def test_it_is_learned_by_name_with_a_client_for_each_of_its_own():
    settings = make_settings(
        dataset="synthetic",
        partition="natural",
        num_clients=12,
        hidden=(),
        concurrency=5,
        clients_per_round=5,
    )
    workload = build_workload(settings)
    dataset = data.make_synthetic(12)
    assert dataset.client_train is not None
    assert workload.counts.tolist() == np.bincount(dataset.client_train).tolist()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"synthetic_alpha": -1.0}, "synthetic_alpha must be finite and >= 0, got -1"),
        ({"synthetic_seed": -1}, r"synthetic_seed must be in \[0, 4294967295\]"),
    ],
)
def test_what_is_out_of_range_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        make_settings(dataset="synthetic", partition="natural", **values)


def test_a_path_is_refused(tmp_path):
    settings = make_settings(
        dataset="synthetic", partition="natural", data_path=tmp_path
    )
    with pytest.raises(ValueError, match=r"^data_path must be None for dataset synth"):
        build_workload(settings)


def test_pooled_pixels_are_means_of_blocks():
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 2)).astype(np.uint8)
    labels = np.zeros(3, np.int32)
    dataset = data.Dataset(images, labels, images[:1], labels[:1], 10)
    pooled = pool_images(dataset, 3)
    assert pooled.x_train.shape == (3, 2, 2, 2) and pooled.x_train.dtype == np.uint8
    block = images[1, 3:6, 0:3, 1].astype(float)
    assert pooled.x_train[1, 1, 0, 1] == np.rint(block.mean())
    assert np.array_equal(pooled.x_test[0], pooled.x_train[0])
    assert pool_images(dataset, 1) is dataset
    with pytest.raises(ValueError, match="must divide 6 and 6 pixels, got 4"):
        pool_images(dataset, 4)
