"""Labels of every client, counted, and the few numbers that sum them up."""

import re
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax.data import (
    LabelSummary,
    Partition,
    Spread,
    dirichlet,
    feature_skew,
    iid,
    label_counts,
    shards,
    summarize_label_counts,
    summarize_labels,
    with_replacement,
)

_REPEATABLE = settings(deadline=None, derandomize=True)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Golden examples.


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_label_counts_small_example(dtype):
    part = Partition(np.array([3, 0, 2, 1]), np.array([1, 3]))
    counts = label_counts(part, np.array([0, 2, 2, 0], dtype), num_classes=4)
    assert counts.tolist() == [[1, 0, 0, 0], [1, 0, 2, 0]]


def test_summary_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    part = Partition(np.arange(8), np.array([4, 1, 3]))
    # Shares 1 0 0, 0 1 0, 0 1/3 2/3 of the clients, 1/2 1/4 1/4 of all.
    distances = [Fraction(1, 2), Fraction(3, 4), Fraction(1, 2)]
    summary = summarize_labels(part, labels, 3)
    mean_distance = float(sum(distances) / 3)
    assert summary.mean_distance == pytest.approx(mean_distance)
    assert summary == summarize_label_counts(label_counts(part, labels, 3))
    assert summary._replace(mean_distance=mean_distance) == LabelSummary(
        num_clients=3,
        sizes=Spread(1, 3.0, 4),
        num_labels=Spread(1, 1.0, 2),
        mean_distance=mean_distance,
    )


def test_a_row_twice_counts_twice_and_one_left_out_not_at_all():
    part = Partition(np.array([0, 0, 1, 2]), np.array([3, 1]))
    summary = summarize_labels(part, np.array([0, 1, 1, 4]), 5)
    # Shares 2/3 1/3 and 0 1 of the clients, 1/2 1/2 of both: label 4 is nobody's.
    assert summary.mean_distance == pytest.approx((1 / 6 + 1 / 2) / 2)
    assert summary.sizes == (1, 2.0, 3)
    assert summary.num_labels == (1, 1.5, 2)


def test_clients_of_one_class_each_and_equal_clients():
    labels = np.arange(1000) % 10
    alone = summarize_labels(
        shards(labels, 10, shards_per_client=1, rng=_rng()), labels, 10
    )
    assert alone.mean_distance == pytest.approx(0.9)
    assert alone.num_labels == (1, 1, 1)
    equal = summarize_labels(
        feature_skew(np.ones(1000), labels, 10, skew=1, rng=_rng()), labels, 10
    )
    assert equal.mean_distance == pytest.approx(0, abs=1e-15)
    assert equal.num_labels == (10, 10, 10)


# The literal definition.


@settings(_REPEATABLE)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=9), min_size=1))
def test_summary_of_lists(clients):
    labels = [label for client in clients for label in client]
    counts = np.array([len(client) for client in clients])
    part = Partition(np.arange(len(labels)), counts)
    summary = summarize_labels(part, np.array(labels), 5)

    def share(label, of):
        return Fraction(of.count(label), len(of))

    distances = [
        sum(abs(share(k, client) - share(k, labels)) for k in range(5)) / 2
        for client in clients
    ]
    assert summary.num_clients == len(clients)
    for spread, values in (
        (summary.sizes, [len(client) for client in clients]),
        (summary.num_labels, [len(set(client)) for client in clients]),
    ):
        assert spread == (min(values), statistics.median(values), max(values))
    assert 0 <= summary.mean_distance < 1
    assert summary.mean_distance == pytest.approx(
        float(sum(distances) / len(clients)), abs=1e-12
    )


# Statistics.


def test_distance_falls_as_the_concentration_rises():
    labels = np.repeat(np.arange(10), 600)
    distances = [
        summarize_labels(
            dirichlet(labels, 20, concentration=a, rng=_rng()), labels, 10
        ).mean_distance
        for a in (0.01, 0.1, 1.0, 10.0, 1000.0)
    ]
    assert distances == sorted(distances, reverse=True)
    by_chance = summarize_labels(iid(6000, 20, rng=_rng()), labels, 10).mean_distance
    assert distances[0] > 0.6 > 0.1 > by_chance


def test_distance_of_two_draws_is_that_of_the_binomial():
    part = with_replacement(2, 50_000, samples_per_client=2, rng=_rng())
    summary = summarize_labels(part, np.array([0, 1]), 2)
    # A half of the clients see both labels, the others are 1/2 away from all.
    assert summary.mean_distance == pytest.approx(1 / 4, abs=0.01)


# Errors.


@pytest.mark.parametrize("count", [label_counts, summarize_labels])
@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
def test_a_label_out_of_range(count, labels):
    part = Partition(np.array([0, 1]), np.array([2]))
    line = f"labels must be in 0..2 (num_classes 3), got {labels[0]}..{labels[1]}"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        count(part, np.array(labels), num_classes=3)


@pytest.mark.parametrize("counts", [[[1, 2], [0, 0]], np.zeros((0, 2), int)])
def test_a_client_without_a_sample(counts):
    counts = np.array(counts)
    line = (
        "counts must have one client or more and one sample or more of each, "
        f"got shape {counts.shape}, smallest sum 0"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        summarize_label_counts(counts)
