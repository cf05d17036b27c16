"""Feature skew: even labels, sorted styles, and nothing of the data altered."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax.data import (
    Partition,
    feature_skew,
    label_counts,
    load_digits,
    make_partition,
)
from fedasync_jax.data.partition.by_feature import project_on_first

_REPEATABLE = settings(deadline=None, derandomize=True)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _clients(partition: Partition) -> list[list[int]]:
    """Rows of every client, sorted."""
    parts = np.split(partition.indices, np.cumsum(partition.counts)[:-1])
    return [sorted(part.tolist()) for part in parts]


def _owners(partition: Partition) -> np.ndarray:
    """Return the client of every row, [N]."""
    owners = np.empty(len(partition.indices), int)
    owners[partition.indices] = np.repeat(
        np.arange(len(partition.counts)), partition.counts
    )
    return owners


def _sum_of_squares(x: np.ndarray, groups: np.ndarray) -> float:
    """Return the squared distances from the means of the groups, summed."""
    which, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    sums = np.zeros((len(sizes), x.shape[1]))
    np.add.at(sums, which, x)
    return float(np.sum((x - (sums / sizes[:, None])[which]) ** 2))


def _explained(x: np.ndarray, labels: np.ndarray, partition: Partition) -> float:
    """Return the share of the variance within classes that the clients explain."""
    cells = _owners(partition) * 1000 + labels
    return 1 - _sum_of_squares(x, cells) / _sum_of_squares(x, labels)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.x_train.reshape(len(data.x_train), -1).astype(float), data.y_train


# Golden examples.


def test_one_feature_is_cut_into_slices_of_its_order():
    features = np.array([5, 1, 4, 2, 0, 3])
    for seed in range(5):
        part = feature_skew(features, np.zeros(6, int), 3, skew=1, rng=_rng(seed))
        # 0 and 1 are in rows 4 and 1, and so on.
        assert sorted(_clients(part)) == [[0, 2], [1, 4], [3, 5]]


def test_each_class_is_sorted_along_its_own_direction():
    # Class 0 differs in the first feature, class 1 in the second.
    features = np.array(
        [[0, 0], [9, 1], [1, 1], [8, 0], [0, 7], [1, 0], [1, 8], [0, 1]]
    )
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = set()
    for seed in range(20):
        part = feature_skew(features, labels, 2, skew=1, rng=_rng(seed))
        found.add(tuple(map(tuple, sorted(_clients(part)))))
    # Either end of one class meets either end of the other.
    assert found == {((0, 2, 4, 6), (1, 3, 5, 7)), ((0, 2, 5, 7), (1, 3, 4, 6))}


def test_the_first_principal_direction_of_an_ellipse():
    along = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    across = np.array([0.1, -0.2, 0.2, -0.2, 0.1])
    x = 7 + np.outer(along, [0.6, -0.8]) + np.outer(across, [0.8, 0.6])
    # The largest entry of the direction is the second: it counts as positive.
    expected = -along / np.abs(x).max()
    assert project_on_first(x, rng=_rng()) == pytest.approx(expected, abs=1e-12)


# The exact oracle: a singular value decomposition of every class.


def _project_exactly(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    return centred @ (direction * np.sign(direction[np.abs(direction).argmax()]))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_projections_are_those_of_the_decomposition(digits, dtype):
    x, labels = digits
    images = np.rint(x * 16).astype(dtype)
    for label in range(10):
        exact = _project_exactly(images[labels == label].astype(float)) / 16
        found = project_on_first(images[labels == label], rng=_rng(label))
        assert found == pytest.approx(exact, abs=1e-6)


def test_clients_own_slices_of_the_exact_order(digits):
    x, labels = digits
    owners = _owners(feature_skew(x, labels, 20, skew=1, rng=_rng()))
    for label in range(10):
        order = np.argsort(_project_exactly(x[labels == label]))
        changes = np.count_nonzero(np.diff(owners[labels == label][order]))
        assert changes == 19


def test_what_the_search_started_from_is_forgotten(digits):
    x, labels = digits
    members = x[labels == 3]
    one, other = (project_on_first(members, rng=_rng(seed)) for seed in (0, 1))
    assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-30, 2.0**1010])
def test_scale_does_not_matter(digits, scale):
    x, labels = digits
    one, other = (
        feature_skew(features, labels, 7, skew=1, rng=_rng()).indices
        for features in (x, x * scale)
    )
    assert np.array_equal(one, other)


def test_largest_floats_do_not_overflow():
    largest = np.finfo(np.float32).max
    x = np.array([[-1, 1], [1, -1], [-0.5, 0.5], [0.5, -0.5]], np.float32) * largest
    part = feature_skew(x, np.zeros(4, int), 2, skew=1, rng=_rng())
    assert sorted(_clients(part)) == [[0, 2], [1, 3]]


# Contracts.


@settings(_REPEATABLE)
@given(
    st.lists(st.integers(-3, 5), min_size=1, max_size=60),
    st.integers(1, 60),
    st.floats(0, 1),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
def test_a_true_partition_with_even_sizes_and_labels(
    labels, num_clients, skew, width, seed
):
    labels = np.array(labels)
    num_clients = min(num_clients, len(labels))
    features = _rng(seed).integers(0, 4, (len(labels), width, 2), np.uint8)
    before = features.copy()
    part, again = (
        feature_skew(features, labels, num_clients, skew=skew, rng=_rng(seed))
        for _ in range(2)
    )
    assert np.array_equal(features, before)
    assert np.array_equal(part.indices, again.indices)
    assert np.array_equal(np.sort(part.indices), np.arange(len(labels)))
    assert part.indices.dtype == part.counts.dtype == np.int32
    counts = label_counts(part, labels + 3, 9)
    assert np.array_equal(counts.sum(axis=1), part.counts)
    assert part.counts.min() >= 1
    assert np.ptp(part.counts) <= 1
    assert np.ptp(counts, axis=0).max() <= 1


def test_samples_without_any_difference_are_dealt_all_the_same():
    part = feature_skew(np.full((9, 4), 3.5), np.arange(9) // 5, 4, skew=1, rng=_rng())
    assert sorted(part.indices.tolist()) == list(range(9))


def test_names_of_classes_do_not_matter(digits):
    x, labels = digits
    one = feature_skew(x, labels, 7, skew=0.5, rng=_rng())
    other = feature_skew(x, labels * 11 - 40, 7, skew=0.5, rng=_rng())
    assert np.array_equal(one.indices, other.indices)


def test_the_registry_passes_features_and_skew_on(digits):
    x, labels = digits
    ours = feature_skew(x, labels, 9, skew=0.3, rng=_rng())
    theirs = make_partition("feature-skew", labels, 9, features=x, skew=0.3, rng=_rng())
    assert np.array_equal(ours.indices, theirs.indices)


# Statistics.


@pytest.mark.parametrize("seed", range(3))
def test_clients_explain_more_of_a_class_the_larger_the_skew(digits, seed):
    x, labels = digits
    num_clients = 20
    first = np.empty((len(x), 1))
    for label in range(10):
        first[labels == label, 0] = _project_exactly(x[labels == label])
    parts = [
        feature_skew(x, labels, num_clients, skew=skew, rng=_rng(seed))
        for skew in (0, 0.25, 0.5, 0.75, 1)
    ]
    along = [_explained(first, labels, part) for part in parts]
    # Of random groups (C - 1) / (n - 1) of the variance is between them.
    by_chance = 10 * (num_clients - 1) / (len(x) - 10)
    assert along == sorted(along)
    assert along[0] == pytest.approx(by_chance, abs=0.03)
    assert along[-1] > 0.98
    everything = [_explained(x, labels, part) for part in parts]
    assert everything[0] == pytest.approx(by_chance, abs=0.02)
    assert everything[-1] > everything[0] + 0.15


def test_which_slice_a_client_gets_is_drawn_for_every_class():
    labels = np.repeat(np.arange(200), 5)
    features = np.tile(np.arange(5.0), 200)
    part = feature_skew(features, labels, 5, skew=1, rng=_rng())
    slices = np.zeros((5, 5))
    np.add.at(slices, (_owners(part), features.astype(int)), 1)
    # 40 each; five standard deviations are 28.
    assert np.abs(slices - 40).max() < 28


# Errors.


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


@pytest.mark.parametrize("value", [-0.1, 1.1, np.inf, np.nan])
def test_skew_out_of_range(value):
    with _fails(f"skew must be in [0, 1], got {value}"):
        feature_skew(np.ones(4), np.zeros(4, int), 2, skew=value, rng=_rng())


@pytest.mark.parametrize(
    "features",
    [
        np.ones((3, 2)),
        np.ones((4, 0)),
        np.ones(()),
        np.ones((4, 2), complex),
        np.full((4, 2), "a"),
    ],
)
def test_features_of_a_wrong_kind(features):
    line = (
        "features must be an array of numbers [4, ...] without zeros, "
        f"got shape {features.shape}, dtype {features.dtype}"
    )
    with _fails(line):
        feature_skew(features, np.zeros(4, int), 2, skew=1, rng=_rng())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_first_row_of_features_that_is_not_finite(value):
    features = np.ones((4, 2, 2))
    features[2, 1, 0] = features[3, 0, 0] = value
    with _fails("features must be finite, got NaN or infinity in row 2"):
        feature_skew(features, np.zeros(4, int), 2, skew=1, rng=_rng())


def test_the_registry_asks_for_features():
    line = (
        "features must be an array of numbers [N, ...] for partition 'feature-skew', "
        "got None"
    )
    with _fails(line):
        make_partition("feature-skew", np.zeros(4, int), 2, rng=_rng())


def test_labels_of_a_wrong_kind():
    line = (
        "labels must be a one-dimensional array of integers, "
        "got shape (4,), dtype float64"
    )
    with _fails(line):
        feature_skew(np.ones(4), np.zeros(4), 2, skew=1, rng=_rng())
