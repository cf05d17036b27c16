"""Partitions: every sample once, the promised skew, errors of one line."""

import doctest
import importlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax.data import (
    PARTITIONS,
    Partition,
    dirichlet,
    iid,
    label_counts,
    make_partition,
    quantity_skew,
    shards,
)
from fedasync_jax.data.apportion import even_sizes, raise_to_minimum, round_shares

_REPEATABLE = settings(deadline=None, derandomize=True)
_LABELS = np.repeat(np.arange(10), 600)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _clients(partition: Partition) -> list[list[int]]:
    """Rows of every client, sorted."""
    parts = np.split(partition.indices, np.cumsum(partition.counts)[:-1])
    return [sorted(part.tolist()) for part in parts]


def _assert_true_partition(partition: Partition, num_samples: int, num_clients: int):
    assert partition.indices.dtype == partition.counts.dtype == np.int32
    assert partition.indices.shape == (num_samples,)
    assert partition.counts.shape == (num_clients,)
    assert partition.counts.sum() == num_samples
    assert np.array_equal(np.sort(partition.indices), np.arange(num_samples))


def _assert_equal(left: Partition, right: Partition):
    assert np.array_equal(left.indices, right.indices)
    assert np.array_equal(left.counts, right.counts)


@st.composite
def _problems(draw):
    """Labels, number of clients, and a lower bound that can be met."""
    labels = np.array(draw(st.lists(st.integers(-3, 5), min_size=1, max_size=60)))
    num_clients = draw(st.integers(1, len(labels)))
    minimum = draw(st.integers(1, len(labels) // num_clients))
    return labels, num_clients, minimum, draw(st.integers(0, 2**32))


_skews = st.one_of(
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    st.floats(0.01, 100),
)


# Golden examples.


def test_shards_of_one_class_each():
    labels = np.array([2, 0, 1, 2, 0, 1, 3, 3])
    part = shards(labels, 4, shards_per_client=1, rng=_rng())
    assert sorted(_clients(part)) == [[0, 3], [1, 4], [2, 5], [6, 7]]


def test_shards_deals_whole_runs_of_the_sorted_labels():
    labels = np.repeat(np.arange(10), 60)[_rng(1).permutation(600)]
    order = np.argsort(labels, kind="stable")
    expected = {tuple(sorted(run.tolist())) for run in np.split(order, 20)}
    part = shards(labels, 10, shards_per_client=2, rng=_rng())
    for rows in _clients(part):
        owned = [run for run in expected if set(run) <= set(rows)]
        assert len(owned) == 2
        expected -= set(owned)
    assert not expected


def test_dirichlet_at_its_smallest_concentration_gives_classes_away_whole():
    part = dirichlet(_LABELS, 5, concentration=1e-300, rng=_rng())
    counts = label_counts(part, _LABELS, 10)
    assert np.sum(counts.max(axis=0) >= 600 - 5) == 10


def test_iid_is_the_permutation_of_its_generator_in_slices():
    part = iid(7, 3, rng=_rng(5))
    assert part.indices.tolist() == _rng(5).permutation(7).tolist()
    assert part.counts.tolist() == [3, 2, 2]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_label_counts_small_example(dtype):
    part = Partition(np.array([3, 0, 2, 1]), np.array([1, 3]))
    counts = label_counts(part, np.array([0, 2, 2, 0], dtype), num_classes=4)
    assert counts.tolist() == [[1, 0, 0, 0], [1, 0, 2, 0]]


@pytest.mark.parametrize(
    ("sizes", "minimum", "expected"),
    [
        ([0, 0, 10], 1, [1, 1, 8]),
        ([0, 6, 6, 6], 4, [4, 5, 5, 4]),
        ([5, 5, 5], 5, [5, 5, 5]),
        ([0, 1, 1], 0, [0, 1, 1]),
        ([0, 3, 9], 3, [3, 3, 6]),
    ],
)
def test_raise_to_minimum_small_examples(sizes, minimum, expected):
    assert raise_to_minimum(np.array(sizes), minimum).tolist() == expected


# Properties.


@settings(_REPEATABLE)
@given(_problems(), _skews, _skews, st.sampled_from(sorted(PARTITIONS)))
def test_every_sample_has_one_client_and_every_client_a_sample(
    problem, concentration, sigma, name
):
    labels, num_clients, _, seed = problem
    options = {
        "concentration": concentration,
        "sigma": min(sigma, 1e6),
        "shards_per_client": len(labels) // num_clients,
    }
    part, again = (
        make_partition(name, labels, num_clients, rng=_rng(seed), **options)
        for _ in range(2)
    )
    _assert_true_partition(part, len(labels), num_clients)
    assert part.counts.min() >= 1
    _assert_equal(part, again)


@settings(_REPEATABLE)
@given(_problems(), _skews)
def test_min_samples_is_kept(problem, skew):
    labels, num_clients, minimum, seed = problem
    by_label = dirichlet(
        labels, num_clients, concentration=skew, min_samples=minimum, rng=_rng(seed)
    )
    by_size = quantity_skew(
        len(labels),
        num_clients,
        sigma=min(skew, 1e6),
        min_samples=minimum,
        rng=_rng(seed),
    )
    for part in (by_label, by_size):
        _assert_true_partition(part, len(labels), num_clients)
        assert part.counts.min() >= minimum


@settings(_REPEATABLE)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(0, 12))
def test_raise_to_minimum_takes_from_the_largest_one_by_one(sizes, minimum):
    minimum = min(minimum, sum(sizes) // len(sizes))
    literal = np.array(sizes)
    while literal.min() < minimum:
        literal[literal.argmax()] -= 1
        literal[literal.argmin()] += 1
    raised = raise_to_minimum(np.array(sizes), minimum)
    assert sorted(raised) == sorted(literal)
    assert np.all((raised >= minimum) | (raised >= np.array(sizes)))


@settings(_REPEATABLE)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda s: sum(s) > 1e-9),
    st.integers(0, 1000),
    st.integers(0, 2**32),
)
def test_round_shares_rounds_each_up_or_down(shares, total, seed):
    exact = np.array(shares) / np.sum(shares) * total
    sizes = round_shares(np.array(shares), total, rng=_rng(seed))
    assert sizes.sum() == total
    assert np.all(sizes >= 0)
    assert np.all(np.abs(sizes - exact) < 1 + 1e-9)


def test_round_shares_keeps_a_total_that_floats_round_up():
    for seed in range(10):
        assert round_shares(np.ones(1), 2**52 + 1, rng=_rng(seed)) == [2**52 + 1]


@settings(_REPEATABLE)
@given(st.integers(0, 100), st.integers(1, 30))
def test_even_sizes_differ_by_at_most_one(total, parts):
    sizes = even_sizes(total, parts)
    assert sizes.shape == (parts,)
    assert sizes.sum() == total
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("name", sorted(PARTITIONS))
def test_another_seed_gives_another_partition(name):
    labels = np.arange(200) % 10
    one, other = (make_partition(name, labels, 10, rng=_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(one.indices, other.indices)


@pytest.mark.parametrize("name", sorted(PARTITIONS))
def test_the_labels_that_are_passed_in_stay_as_they_are(name):
    labels = _rng().integers(0, 10, 300)
    before = labels.copy()
    make_partition(name, labels, 10, rng=_rng())
    assert np.array_equal(labels, before)


def test_one_client_owns_everything_and_as_many_clients_as_samples_own_one_each():
    labels = np.arange(12) % 3
    for name in PARTITIONS:
        options = {"shards_per_client": 1, "rng": _rng()}
        assert make_partition(name, labels, 1, **options).counts.tolist() == [12]
        assert make_partition(name, labels, 12, **options).counts.tolist() == [1] * 12


# Statistics.


def _shares(concentration: float, num_clients: int = 20) -> np.ndarray:
    """Class shares of every client, [C, K]."""
    part = dirichlet(
        _LABELS, num_clients, concentration=concentration, rng=_rng(2), min_samples=10
    )
    counts = label_counts(part, _LABELS, 10)
    return counts / counts.sum(axis=1, keepdims=True)


def test_small_concentration_gives_few_labels_per_client():
    assert np.mean(np.sum(_shares(0.01) > 0.05, axis=1)) < 3


def test_large_concentration_gives_nearly_equal_mixtures():
    assert np.abs(_shares(1e6) - 0.1).max() < 0.01


def test_largest_concentrations_stay_equal():
    part = dirichlet(_LABELS, 20, concentration=1.7e308, rng=_rng())
    assert part.counts.tolist() == [300] * 20


def test_skew_falls_as_the_concentration_rises():
    spread = [_shares(a).std() for a in (0.01, 0.1, 1.0, 10.0, 100.0)]
    assert spread == sorted(spread, reverse=True)


def test_dirichlet_shares_have_the_variance_of_the_distribution():
    concentration, num_clients = 0.5, 50
    counts = [
        label_counts(
            dirichlet(_LABELS, num_clients, concentration=concentration, rng=_rng(i)),
            _LABELS,
            10,
        )
        for i in range(20)
    ]
    mean = 1 / num_clients
    variance = mean * (1 - mean) / (num_clients * concentration + 1)
    assert np.var(np.array(counts) / 600) == pytest.approx(variance, rel=0.1)


def test_dirichlet_favours_no_client():
    labels = np.arange(1000) % 10
    sizes = [
        dirichlet(labels, 300, concentration=1e6, rng=_rng(seed)).counts
        for seed in range(300)
    ]
    mean = np.mean(sizes, axis=0)
    # Each mean is of 300 draws with variance below 10 classes * 2 / 9.
    assert np.abs(mean - 1000 / 300).max() < 5 * np.sqrt(20 / 9 / 300)


def test_clients_are_filled_up_with_many_classes_of_the_largest():
    part = dirichlet(_LABELS, 100, concentration=1e-9, min_samples=20, rng=_rng())
    counts = label_counts(part, _LABELS, 10)
    filled = counts[counts.sum(axis=1) == 20]
    assert len(filled) >= 90
    assert np.mean(np.sum(filled > 0, axis=1)) > 5
    assert part.counts.max() <= 600


def test_clients_are_filled_up_with_random_samples_of_the_largest():
    labels = np.repeat([0, 1], 100)
    for seed in range(10):
        part = dirichlet(
            labels, 2, concentration=1e-300, min_samples=40, rng=_rng(seed)
        )
        if part.counts.max() == 160:  # both classes had gone to one client
            counts = label_counts(part, labels, 2)
            assert counts[part.counts.argmin()].min() > 8


def test_sigma_zero_gives_equal_sizes():
    part = quantity_skew(1000, 10, sigma=0, rng=_rng())
    assert part.counts.tolist() == [100] * 10
    sizes = quantity_skew(1003, 10, sigma=0, rng=_rng()).counts
    assert set(sizes.tolist()) == {100, 101}


def test_sizes_are_log_normal_with_the_given_sigma():
    part = quantity_skew(10_000_000, 5_000, sigma=0.7, rng=_rng())
    logs = np.log(part.counts)
    assert logs.std() == pytest.approx(0.7, rel=0.03)
    skewness = np.mean(((logs - logs.mean()) / logs.std()) ** 3)
    assert abs(skewness) < 0.15


def test_quantity_skew_leaves_the_labels_alone():
    part = quantity_skew(len(_LABELS), 5, sigma=0.5, rng=_rng())
    counts = label_counts(part, _LABELS, 10)
    assert np.abs(counts / counts.sum(axis=1, keepdims=True) - 0.1).max() < 0.04


def test_shards_of_two_give_clients_about_two_labels():
    counts = label_counts(shards(_LABELS, 100, rng=_rng()), _LABELS, 10)
    assert np.sum(counts > 0, axis=1).max() == 2
    assert np.all(counts.sum(axis=1) == 60)


# Errors.


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


@pytest.mark.parametrize("name", sorted(PARTITIONS))
@pytest.mark.parametrize("num_clients", [0, -1, 1438, 2.5])
def test_number_of_clients_out_of_range(name, num_clients):
    labels = np.zeros(1437, int)
    line = f"num_clients must be in 1..1437 (the number of samples), got {num_clients}"
    with _fails(line):
        make_partition(name, labels, num_clients, rng=_rng())


@pytest.mark.parametrize("name", sorted(PARTITIONS))
def test_no_samples(name):
    with _fails("num_samples must be in 1..2147483647, got 0"):
        make_partition(name, np.zeros(0, int), 1, rng=_rng())


def test_more_samples_than_int32_can_number():
    with _fails("num_samples must be in 1..2147483647, got 2147483648"):
        iid(2**31, 10, rng=_rng())


@pytest.mark.parametrize("value", [0, -0.5, np.inf, np.nan])
def test_concentration_out_of_range(value):
    with _fails(f"concentration must be finite and > 0, got {value}"):
        dirichlet(np.zeros(9, int), 3, concentration=value, rng=_rng())


@pytest.mark.parametrize("value", [-0.1, np.inf, np.nan])
def test_sigma_out_of_range(value):
    with _fails(f"sigma must be finite and >= 0, got {value}"):
        quantity_skew(9, 3, sigma=value, rng=_rng())


@pytest.mark.parametrize("value", [0, -1, 4, 1.5])
def test_shards_per_client_out_of_range(value):
    line = f"shards_per_client must be in 1..3 (10 samples for 3 clients), got {value}"
    with _fails(line):
        shards(np.zeros(10, int), 3, shards_per_client=value, rng=_rng())


@pytest.mark.parametrize("value", [0, -1, 4])
def test_min_samples_out_of_range(value):
    line = f"min_samples must be in 1..3 (10 samples for 3 clients), got {value}"
    with _fails(line):
        dirichlet(np.zeros(10, int), 3, concentration=1, min_samples=value, rng=_rng())
    with _fails(line):
        quantity_skew(10, 3, sigma=1, min_samples=value, rng=_rng())


@pytest.mark.parametrize("labels", [np.zeros((4, 1), int), np.zeros(4), np.array(3)])
def test_labels_of_a_wrong_kind(labels):
    line = (
        "labels must be a one-dimensional array of integers, "
        f"got shape {labels.shape}, dtype {labels.dtype}"
    )
    with _fails(line):
        shards(labels, 1, rng=_rng())
    with _fails(line):
        dirichlet(labels, 1, concentration=1, rng=_rng())


@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
def test_label_counts_of_a_label_out_of_range(labels):
    part = Partition(np.array([0, 1]), np.array([2]))
    line = f"labels must be in 0..2 (num_classes 3), got {labels[0]}..{labels[1]}"
    with _fails(line):
        label_counts(part, np.array(labels), num_classes=3)


def test_unknown_name_lists_the_known_ones():
    line = "partition must be one of iid, shards, dirichlet, quantity-skew, got 'even'"
    with _fails(line):
        make_partition("even", np.zeros(4, int), 2, rng=_rng())


@pytest.mark.parametrize("name", ["apportion", "clients", "partition"])
def test_examples_in_the_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"fedasync_jax.data.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
