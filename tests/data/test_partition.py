"""Partitions: every sample once, the promised skew, errors of one line."""

import doctest
import importlib
import re
from typing import Any, cast

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
    make_client_data,
    make_partition,
    power_law,
    quantity_skew,
    shards,
    with_replacement,
)
from fedasync_jax.data.partition.apportion import (
    even_sizes,
    raise_to_minimum,
    round_shares,
)

_REPEATABLE = settings(deadline=None, derandomize=True)
_LABELS = np.repeat(np.arange(10), 600)
_NAMES = sorted(PARTITIONS)
_TRUE = sorted(PARTITIONS.keys() - {"replacement"})  # every sample has one client
# A setting of each partition that has one, another value than its default.
_READS = {
    "shards": ("shards_per_client", 3),
    "dirichlet": ("concentration", 9.0),
    "quantity-skew": ("sigma", 0.3),
    "power-law": ("exponent", 0.2),
    "feature-skew": ("skew", 0.4),
    "replacement": ("samples_per_client", 7),
}


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _make(name: str, labels: np.ndarray, num_clients: int, **options) -> Partition:
    """Make any partition of the registry; some need features."""
    features = np.arange(2 * len(labels)).reshape(-1, 2) % 7
    return make_partition(name, labels, num_clients, features=features, **options)


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


def _assert_rows(partition: Partition, num_samples: int, num_clients: int):
    assert partition.indices.dtype == partition.counts.dtype == np.int32
    assert partition.counts.shape == (num_clients,)
    assert partition.counts.min() >= 1
    assert partition.indices.shape == (partition.counts.sum(),)
    assert 0 <= partition.indices.min() <= partition.indices.max() < num_samples


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


@pytest.mark.parametrize("seed", range(5))
def test_power_law_of_four_clients(seed):
    # 1 + 1/2 + 1/3 + 1/4 = 25/12
    part = power_law(25, 4, exponent=1, rng=_rng(seed))
    assert sorted(part.counts.tolist()) == [3, 4, 6, 12]
    part = power_law(49, 3, exponent=2, min_samples=7, rng=_rng(seed))
    assert sorted(part.counts.tolist()) == [7, 9, 33]  # 36, 9 and 4, raised to 7


def test_with_replacement_is_what_its_generator_draws():
    part = with_replacement(5, 3, samples_per_client=4, rng=_rng(7))
    assert part.indices.tolist() == _rng(7).integers(5, size=12, dtype="i4").tolist()
    assert part.counts.tolist() == [4, 4, 4]


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
@given(_problems(), _skews, _skews, st.floats(0, 1), st.sampled_from(_NAMES))
def test_every_client_has_a_sample_and_if_promised_every_sample_one_client(
    problem, concentration, sigma, skew, name
):
    labels, num_clients, _, seed = problem
    options = {
        "concentration": concentration,
        "sigma": min(sigma, 1e6),
        "exponent": sigma,
        "skew": skew,
        "shards_per_client": len(labels) // num_clients,
    }
    part, again = (
        _make(name, labels, num_clients, rng=_rng(seed), **options) for _ in range(2)
    )
    if name in _TRUE:
        _assert_true_partition(part, len(labels), num_clients)
    _assert_rows(part, len(labels), num_clients)
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
    by_rank = power_law(
        len(labels), num_clients, exponent=skew, min_samples=minimum, rng=_rng(seed)
    )
    for part in (by_label, by_size, by_rank):
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


@pytest.mark.parametrize("name", _NAMES)
def test_another_seed_gives_another_partition(name):
    labels = np.arange(200) % 10
    one, other = (_make(name, labels, 10, rng=_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(one.indices, other.indices)


@pytest.mark.parametrize("name", _NAMES)
def test_each_partition_reads_its_own_setting_and_no_other(name):
    labels = np.arange(200) % 10
    default = _make(name, labels, 10, rng=_rng())
    for reader, (setting, value) in _READS.items():
        part = _make(name, labels, 10, rng=_rng(), **{setting: value})
        is_equal = all(map(np.array_equal, part, default))
        assert is_equal == (reader != name)


@pytest.mark.parametrize("name", _NAMES)
def test_the_labels_that_are_passed_in_stay_as_they_are(name):
    labels = _rng().integers(0, 10, 300)
    before = labels.copy()
    _make(name, labels, 10, rng=_rng())
    assert np.array_equal(labels, before)


def test_one_client_owns_everything_and_as_many_clients_as_samples_own_one_each():
    labels = np.arange(12) % 3
    for name in _TRUE:
        options = {"shards_per_client": 1, "rng": _rng()}
        assert _make(name, labels, 1, **options).counts.tolist() == [12]
        assert _make(name, labels, 12, **options).counts.tolist() == [1] * 12


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


@pytest.mark.parametrize("exponent", [0, 0.5, 1.2])
def test_sizes_fall_with_the_rank_by_the_given_power(exponent):
    part = power_law(10_000_000, 2_000, exponent=exponent, rng=_rng())
    sizes = np.sort(part.counts)[::-1]
    ranks = np.arange(1, 2_001)
    exact = ranks**-exponent / np.sum(ranks**-exponent) * 10_000_000
    assert np.abs(sizes - exact).max() <= 1
    slope = np.polyfit(np.log(ranks), np.log(sizes), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.01)


def test_ranks_of_the_power_law_are_dealt_at_random():
    largest = [
        power_law(100, 4, exponent=1, rng=_rng(seed)).counts.argmax()
        for seed in range(400)
    ]
    # 100 each; five standard deviations are 43.
    assert np.abs(np.bincount(largest, minlength=4) - 100).max() < 43


def test_exponents_beyond_all_floats_leave_the_smallest_sizes():
    part = power_law(100, 10, exponent=1.7e308, rng=_rng())
    assert sorted(part.counts.tolist()) == [1] * 9 + [91]


def test_quantity_skew_leaves_the_labels_alone():
    for part in (
        quantity_skew(len(_LABELS), 5, sigma=0.5, rng=_rng()),
        power_law(len(_LABELS), 5, exponent=0.8, rng=_rng()),
    ):
        counts = label_counts(part, _LABELS, 10)
        assert np.abs(counts / counts.sum(axis=1, keepdims=True) - 0.1).max() < 0.04


def test_many_more_clients_than_samples_draw_uniformly_and_each_for_itself():
    num_samples, num_clients, each = 50, 100_000, 3
    part = with_replacement(
        num_samples, num_clients, samples_per_client=each, rng=_rng()
    )
    _assert_rows(part, num_samples, num_clients)
    drawn = np.bincount(part.indices, minlength=num_samples)
    expected = num_clients * each / num_samples
    # chi^2 with 49 degrees of freedom: standard deviation sqrt(98).
    assert abs(np.sum((drawn - expected) ** 2) / expected - 49) < 4 * np.sqrt(98)
    first, second, third = part.indices.reshape(num_clients, each).T
    for left, right in ((first, second), (second, third), (first[1:], third[:-1])):
        assert np.mean(left == right) == pytest.approx(1 / num_samples, rel=0.1)


def test_with_replacement_leaves_out_what_nobody_draws():
    part = with_replacement(1000, 50, samples_per_client=20, rng=_rng())
    left_out = 1000 - len(np.unique(part.indices))
    assert left_out / 1000 == pytest.approx((1 - 1 / 1000) ** 1000, abs=0.05)


def test_client_data_take_what_was_drawn_with_replacement():
    part = with_replacement(4, 1000, samples_per_client=2, rng=_rng())
    data = make_client_data(np.zeros((4, 3)), part)
    assert data.indices is part.indices  # no copy of what may be large
    assert data.offsets.tolist() == list(range(0, 2000, 2))


def test_shards_of_two_give_clients_about_two_labels():
    counts = label_counts(shards(_LABELS, 100, rng=_rng()), _LABELS, 10)
    assert np.sum(counts > 0, axis=1).max() == 2
    assert np.all(counts.sum(axis=1) == 60)


# Errors.


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


@pytest.mark.parametrize("name", _TRUE)
@pytest.mark.parametrize("num_clients", [0, -1, 1438, 2.5])
def test_number_of_clients_out_of_range(name, num_clients):
    labels = np.zeros(1437, int)
    line = f"num_clients must be in 1..1437 (the number of samples), got {num_clients}"
    with _fails(line):
        _make(name, labels, num_clients, rng=_rng())


@pytest.mark.parametrize("name", _NAMES)
def test_no_samples(name):
    with _fails("num_samples must be in 1..2147483647, got 0"):
        _make(name, np.zeros(0, int), 1, rng=_rng())


@pytest.mark.parametrize("value", [0, -1, 2**31, 2.5])
def test_number_of_clients_that_draw_out_of_range(value):
    with _fails(f"num_clients must be in 1..2147483647, got {value}"):
        with_replacement(9, value, samples_per_client=1, rng=_rng())


@pytest.mark.parametrize("value", [0, -1, 2148, 1.5])
def test_samples_per_client_out_of_range(value):
    line = f"samples_per_client must be in 1..2147 (for 1000000 clients), got {value}"
    if isinstance(value, float):
        line = f"samples_per_client must be a whole number, got {value}"
    with _fails(line):
        with_replacement(9, 1_000_000, samples_per_client=cast(Any, value), rng=_rng())


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


@pytest.mark.parametrize("value", [-0.1, np.inf, np.nan])
def test_exponent_out_of_range(value):
    with _fails(f"exponent must be finite and >= 0, got {value}"):
        power_law(9, 3, exponent=value, rng=_rng())


@pytest.mark.parametrize("value", [0, -1, 4, 1.5])
def test_shards_per_client_out_of_range(value):
    line = f"shards_per_client must be in 1..3 (10 samples for 3 clients), got {value}"
    if isinstance(value, float):
        line = f"shards_per_client must be a whole number, got {value}"
    with _fails(line):
        shards(np.zeros(10, int), 3, shards_per_client=cast(Any, value), rng=_rng())


@pytest.mark.parametrize("value", [0, -1, 4])
def test_min_samples_out_of_range(value):
    line = f"min_samples must be in 1..3 (10 samples for 3 clients), got {value}"
    with _fails(line):
        dirichlet(np.zeros(10, int), 3, concentration=1, min_samples=value, rng=_rng())
    with _fails(line):
        quantity_skew(10, 3, sigma=1, min_samples=value, rng=_rng())
    with _fails(line):
        power_law(10, 3, exponent=1, min_samples=value, rng=_rng())


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


def test_unknown_name_lists_the_known_ones():
    line = (
        "partition must be one of iid, shards, dirichlet, quantity-skew, power-law, "
        "feature-skew, replacement, got 'even'"
    )
    with _fails(line):
        make_partition("even", np.zeros(4, int), 2, rng=_rng())


@pytest.mark.parametrize(
    "name",
    [
        "partition.apportion",
        "clients",
        "partition.by_feature",
        "partition.by_key",
        "partition.summary",
    ],
)
def test_examples_in_the_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"fedasync_jax.data.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
