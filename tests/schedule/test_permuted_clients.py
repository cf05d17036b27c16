"""Rounds that take their clients from random permutations of all."""

import math

import numpy as np
import pytest

from fedasync_jax import fleet
from fedasync_jax.fleet import Fleet, availability, make_fleet
from fedasync_jax.schedule.invariants import find_violations
from fedasync_jax.schedule.permuted_clients import PermutedClients
from fedasync_jax.schedule.schedulers import Rounds
from fedasync_jax.schedule.simulation import simulate


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _run(
    k, num_clients, num_rounds, seed=1, over_selection=0.0, devices=None, **kwargs
):
    """Return the trace of rounds by permutation, and the clients of every round."""
    if devices is None:
        devices = make_fleet(num_clients, rng=_rng(), task_law=fleet.exponential())
    scheduler = Rounds(k, over_selection, selection="permutation")
    rng = _rng(seed)
    trace = simulate(devices, k * num_rounds, scheduler=scheduler, rng=rng, **kwargs)
    assert find_violations(trace, devices) == []
    starts = np.concatenate([trace.start_time, trace.lost.start_time])
    clients = np.concatenate([trace.client, trace.lost.client])
    return trace, [clients[starts == start] for start in np.unique(starts)]


@pytest.mark.parametrize(("k", "num_clients"), [(1, 6), (4, 12), (10, 100), (7, 7)])
def test_every_client_is_in_one_of_n_over_k_rounds(k, num_clients):
    trace, _ = _run(k, num_clients, 5 * num_clients // k)
    passes = trace.client.reshape(5, num_clients)
    np.testing.assert_array_equal(np.sort(passes), [np.arange(num_clients)] * 5)
    if k < num_clients:  # another order every time, and another division into rounds
        rounds = np.sort(passes.reshape(5, -1, k)).tolist()
        assert len({tuple(map(tuple, sorted(one))) for one in rounds}) == 5 or k == 1
        assert len({tuple(one) for one in passes.tolist()}) == 5


@pytest.mark.parametrize(("k", "num_clients"), [(4, 10), (5, 7), (6, 7), (3, 100)])
def test_a_round_may_begin_in_one_permutation_and_end_in_the_next(k, num_clients):
    _, rounds = _run(k, num_clients, 60)
    counts = np.zeros(num_clients, int)
    for clients in rounds[:60]:
        assert len(set(clients.tolist())) == k  # nobody twice in a round
        counts[clients] += 1
        assert counts.max() - counts.min() <= 1
    assert counts.sum() == 60 * k


def test_who_still_has_a_task_has_its_turn_next():
    clients = PermutedClients(5, availability.always(), rng=_rng(3))
    first = [clients.pop(0.0) for _ in range(5)]
    assert sorted(client for client, _ in filter(None, first)) == list(range(5))
    busy = 2
    for client in range(5):
        if client != busy:
            clients.add(client)
    others = [clients.pop(1.0) for _ in range(4)]
    assert clients.pop(1.0) is None
    assert sorted(client for client, _ in filter(None, others)) == [0, 1, 3, 4]
    clients.add(busy)
    clients.add(0)
    assert clients.pop(2.0) == (busy, math.inf)


def test_clients_triggered_besides_have_had_their_turns():
    trace, rounds = _run(4, 12, 9, over_selection=0.5)
    assert [len(clients) for clients in rounds] == [6] * len(rounds)
    for first, second in zip(rounds[::2], rounds[1::2], strict=False):
        assert sorted([*first, *second]) == list(range(12))
    assert len(trace.lost.client) > 0


@pytest.mark.parametrize("seed", range(8))
def test_who_is_away_at_its_turn_waits_for_the_next_permutation(seed):
    windows = [(0, 0, 1e9), (1, 0, 1e9), (2, 0, 1e9), (3, 10, 1e9)]
    client, start, end = map(np.array, zip(*windows, strict=True))
    there = availability.replay(client, start, end, 4)
    clients = PermutedClients(4, there, rng=_rng(seed))
    order = []
    for now in range(1, 18):
        found = clients.pop(float(now))
        assert found is not None and found[1] == 1e9
        order.append(found[0])
        clients.add(found[0])
    for begin in (0, 3, 6):  # three permutations, in each of which client 3 is away
        assert sorted(order[begin : begin + 3]) == [0, 1, 2]
    # From then on one in four, after its turn in the third permutation if that is last.
    fours = [sorted(order[begin : begin + 4]) for begin in (9, 10)]
    assert fours[0] == [0, 1, 2, 3] or (order[9], fours[1]) == (3, [0, 1, 2, 3])


def test_a_round_waits_until_somebody_is_back():
    there = availability.replay(
        np.array([0, 1]), np.array([5.0, 3.0]), np.array([1e9, 1e9]), 2
    )
    devices = Fleet(np.ones(2), fleet.constant(), availability=there)
    trace, _ = _run(2, 2, 2, devices=devices)
    assert trace.start_time.tolist() == [3.0, 4.0, 5.0, 5.0]
    assert trace.client.tolist()[:2] == [1, 1]


def test_a_client_takes_part_as_often_as_it_may():
    trace, _ = _run(4, 10, 30, max_tasks=3)
    assert np.bincount(trace.client).tolist() == [3] * 10
    assert trace.ended.startswith("nobody is available after ")


def test_the_seed_decides_and_a_longer_run_repeats_a_shorter_one():
    once, again, other = (_run(4, 10, 20, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.client, again.client)
    assert not np.array_equal(once.client, other.client)
    longer, _ = _run(4, 10, 33)
    for name, column in once.columns().items():
        if name != "write_slot":
            repeated = longer.columns()[name][: once.num_updates]
            np.testing.assert_array_equal(column, repeated, name)


@pytest.mark.parametrize(
    ("selection", "weights", "message"),
    [
        (
            "random",
            None,
            "selection must be one of draws, permutation, got 'random'",
        ),
        (
            "permutation",
            np.ones(6),
            "weights must be None for rounds by permutation, where all clients have as "
            "many turns, got 6 weights",
        ),
    ],
)
def test_errors(selection, weights, message):
    scheduler = Rounds(2, selection=selection)
    devices = make_fleet(6, rng=_rng())
    with pytest.raises(ValueError) as error:
        simulate(devices, 4, scheduler=scheduler, weights=weights, rng=_rng())
    assert str(error.value) == message
