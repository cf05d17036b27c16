"""Idle clients: every draw against a plain recount of all of them."""

import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fedasync_jax.fleet import availability
from fedasync_jax.fleet.availability import Availability, next_available
from fedasync_jax.schedule.idle_clients import IdleClients

_SIZES = [5, 128, 129, 300]  # up to 128 clients are looked at together
_FOR_GOOD = 1e9


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _windows(num_clients: int, windows: dict[int, tuple[float, float]], rest=None):
    """Return one window per client, ``rest`` for those that are not named."""
    others = {} if rest is None else dict.fromkeys(range(num_clients), rest)
    rows = [(client, *window) for client, window in {**others, **windows}.items()]
    client, start, end = map(np.array, zip(*rows, strict=True))
    return availability.replay(client, start, end, num_clients)


# By hand


@pytest.mark.parametrize("num_clients", _SIZES)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_all_are_drawn_once_until_they_are_added_again(num_clients, is_weighted):
    weights = _rng(1).uniform(0.5, 2, num_clients) if is_weighted else None
    idle = IdleClients(num_clients, availability.always(), weights=weights, rng=_rng())
    for _ in range(2):
        drawn = [idle.pop(0.0) for _ in range(num_clients)]
        assert {until for _, until in filter(None, drawn)} == {math.inf}
        clients = [client for client, _ in filter(None, drawn)]
        assert sorted(clients) == list(range(num_clients))
        assert clients != sorted(clients)
        assert idle.pop(0.0) is None
        assert idle.next_return == math.inf
        for client in clients:
            idle.add(client)


@pytest.mark.parametrize("num_clients", _SIZES)
def test_a_client_comes_with_the_moment_when_it_leaves(num_clients):
    leaves = _rng(1).uniform(50, 99, num_clients)
    there = _windows(num_clients, {c: (0.0, leaves[c]) for c in range(num_clients)})
    idle = IdleClients(num_clients, there, rng=_rng())
    for now in np.linspace(0, 49, num_clients).tolist():
        drawn = idle.pop(now)
        assert drawn is not None and drawn[1] == leaves[drawn[0]]


@pytest.mark.parametrize("num_clients", _SIZES)
def test_the_first_that_is_back_is_known_and_found(num_clients):
    there = _windows(num_clients, {3: (7.5, 99.0)}, rest=(20.0, 99.0))
    idle = IdleClients(num_clients, there, rng=_rng())
    assert idle.pop(0.0) is None
    assert idle.next_return == 7.5
    assert idle.pop(7.0) is None
    assert idle.pop(7.5) == (3, 99.0)
    assert idle.pop(7.5) is None
    assert idle.next_return == 20.0
    drawn = idle.pop(20.0)
    assert drawn is not None and drawn[0] != 3


@pytest.mark.parametrize("num_clients", _SIZES)
def test_who_ends_a_task_while_nobody_is_there_is_found_at_once(num_clients):
    there = _windows(num_clients, {2: (0.0, 99.0)}, rest=(50.0, 99.0))
    idle = IdleClients(num_clients, there, rng=_rng())
    for now in (0.0, 5.0, 9.0):
        assert idle.pop(now) == (2, 99.0)
        assert idle.pop(now) is None
        assert idle.next_return == 50.0
        idle.add(2)


@pytest.mark.parametrize("num_clients", _SIZES)
def test_who_ends_a_task_while_away_is_waited_for_like_the_others(num_clients):
    others = np.delete(np.arange(num_clients), 2)
    client = np.append([2, 2], others)
    start = np.append([0.0, 20.0], np.full(len(others), 50.0))
    end = np.append([4.0, 99.0], np.full(len(others), 99.0))
    there = availability.replay(client, start, end, num_clients)
    idle = IdleClients(num_clients, there, rng=_rng())
    assert idle.pop(0.0) == (2, 4.0)
    assert idle.pop(3.0) is None
    idle.add(2)
    assert idle.pop(10.0) is None
    assert idle.next_return == 20.0
    assert idle.pop(20.0) == (2, 99.0)


@pytest.mark.parametrize("num_clients", _SIZES)
@pytest.mark.parametrize(("days", "is_found"), [(365, True), (400, False)])
def test_who_does_not_come_for_a_year_never_comes(num_clients, days, is_found):
    there = _windows(num_clients, {2: (days * 86400.0, math.inf)})
    idle = IdleClients(num_clients, there, rng=_rng())
    assert idle.pop(0.0) is None
    assert idle.next_return == (days * 86400.0 if is_found else math.inf)


@pytest.mark.parametrize("num_clients", _SIZES)
def test_the_year_is_counted_from_when_nobody_was_there(num_clients):
    """Not from an earlier time of that kind, after which somebody was found."""
    day = 86400.0
    client, start = np.array([0, 0, 1]), day * np.array([1, 400, 300])
    there = availability.replay(client, start, start + day, num_clients)
    idle = IdleClients(num_clients, there, rng=_rng())
    assert idle.pop(0.0) is None
    assert idle.next_return == day
    assert idle.pop(day) == (0, 2 * day)
    idle.add(0)
    assert idle.pop(2 * day) is None
    assert idle.next_return == 300 * day
    assert idle.pop(300 * day) == (1, 301 * day)
    assert idle.pop(300 * day) is None
    assert idle.next_return == 400 * day


@pytest.mark.parametrize("num_clients", _SIZES)
def test_hours_that_never_meet_end_the_search(num_clients):
    never = availability.all_of(availability.daily(0, 9), availability.daily(9, 9))
    idle = IdleClients(num_clients, never, rng=_rng())
    now = 0.0
    while idle.pop(now) is None and idle.next_return < math.inf:
        assert idle.next_return > now
        now = idle.next_return
    assert idle.next_return == math.inf
    assert now < 400 * 86400


@pytest.mark.parametrize("num_clients", _SIZES)
def test_nobody_takes_part_more_often_than_allowed(num_clients):
    idle = IdleClients(num_clients, availability.always(), max_tasks=3, rng=_rng())
    counts = np.zeros(num_clients, int)
    while (drawn := idle.pop(0.0)) is not None:
        counts[drawn[0]] += 1
        idle.add(drawn[0])
    assert set(counts.tolist()) == {3}
    assert idle.next_return == math.inf


@pytest.mark.parametrize("num_clients", _SIZES)
@pytest.mark.parametrize("present", [1.0, 0.5])
def test_a_client_of_no_weight_is_never_drawn(num_clients, present):
    weights = np.ones(num_clients)
    weights[::2] = 0.0
    there = _rng(2).random(num_clients) < present
    there[:2] = True
    eligible = np.flatnonzero(there & (weights > 0)).tolist()
    windows = {c: (0.0, _FOR_GOOD) for c in np.flatnonzero(there).tolist()}
    idle = IdleClients(
        num_clients, _windows(num_clients, windows), weights=weights, rng=_rng()
    )
    drawn = [idle.pop(0.0) for _ in eligible]
    assert sorted(client for client, _ in filter(None, drawn)) == eligible
    assert idle.pop(1.0) is None  # those without weight are there and idle
    assert idle.next_return == math.inf


# Every draw is uniform, or by weight, over those that are idle and there


def _draw_against_recount(num_clients, there, weights, keys):
    """Return float64 [n, K]: where each draw stands among those that it could be.

    In the order of each key, the shares of all before the drawn one and a random part
    of its own: uniform on [0, 1) if and only if the draw has the right distribution.
    """
    rng, clients = _rng(5), np.arange(num_clients)
    idle = IdleClients(num_clients, there, weights=weights, rng=_rng(6))
    shares = np.ones(num_clients) if weights is None else weights
    is_idle = np.ones(num_clients, bool)
    busy: list[tuple[float, int]] = []
    now, places = 0.0, []
    while len(places) < 4000:
        now += rng.exponential(2.0)
        for end, client in [task for task in busy if task[0] <= now]:
            busy.remove((end, client))
            idle.add(client)
            is_idle[client] = True
        is_there, until = there(clients, np.full(num_clients, now))
        values = [key(now) for key in keys]
        for _ in range(rng.integers(1, 4)):
            candidates = np.flatnonzero(is_idle & is_there)
            drawn = idle.pop(now)
            if drawn is None:
                assert not shares[candidates].any()
                break
            client = drawn[0]
            assert client in candidates and drawn[1] == until[client]
            row = []
            for value in values:
                order = candidates[np.argsort(value[candidates], kind="stable")]
                ends = np.cumsum(shares[order]) / shares[order].sum()
                place = int(np.flatnonzero(order == client)[0])
                own = shares[client] / shares[order].sum()
                row.append(ends[place] - own * rng.random())
            places.append(row)
            is_idle[client] = False
            busy.append((now + rng.exponential(6.0), client))
    return np.array(places)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("num_clients", [6, 100, 400])
@pytest.mark.parametrize("mean_off", [10.0, 150.0])
def test_draws_have_the_distribution_of_a_recount(num_clients, is_weighted, mean_off):
    """In whatever order: by number, weight, time until it leaves, how long it is there.

    The distance of 4000 draws from the uniform distribution exceeds 0.0257 with
    probability 1% (Kolmogorov and Smirnov).
    """
    there = availability.on_off(40.0, mean_off, rng=_rng(3))
    weights = _rng(4).exponential(1.0, num_clients) if is_weighted else None
    clients = np.arange(num_clients)
    keys = [
        lambda now: clients,
        lambda now: clients if weights is None else weights,
        lambda now: there(clients, np.full(num_clients, now))[1],
        lambda now: there(clients, np.full(num_clients, max(now - 1.0, 0.0)))[0],
    ]
    places = np.sort(_draw_against_recount(num_clients, there, weights, keys), axis=0)
    uniform = (np.arange(len(places)) + 0.5) / len(places)
    distances = np.abs(places - uniform[:, None]).max(axis=0)
    assert (distances < 0.0257).all(), distances


@pytest.mark.parametrize("num_clients", _SIZES)
@pytest.mark.parametrize("of_others", [0.5, 1e6])
def test_few_among_many_are_drawn_by_their_weights(num_clients, of_others):
    """With those that are away as likely to be drawn, or so much that all are asked."""
    weights = np.full(num_clients, of_others)
    weights[[1, 2, 4]] = 1.0, 4.0, 16.0
    there = _windows(num_clients, dict.fromkeys((1, 2, 4), (0.0, _FOR_GOOD)))
    idle = IdleClients(num_clients, there, weights=weights, rng=_rng())
    counts = np.zeros(num_clients)
    for now in range(3000):
        drawn = idle.pop(float(now))
        assert drawn is not None
        counts[drawn[0]] += 1
        idle.add(drawn[0])
    shares = counts[[1, 2, 4]] / 3000
    np.testing.assert_allclose(shares, np.array([1, 4, 16]) / 21, atol=0.025)


@pytest.mark.parametrize("num_clients", [100, 400])
def test_the_seed_decides(num_clients):
    def draw(seed):
        there = availability.on_off(40.0, 60.0, rng=_rng(3))
        idle = IdleClients(num_clients, there, rng=_rng(seed))
        return [idle.pop(float(now)) for now in range(30)]

    assert draw(1) == draw(1) != draw(2)


class _Counting:
    """An availability that counts about how many clients it is asked."""

    def __init__(self, there: Availability):
        self.there, self.asked = there, 0

    def __call__(self, clients, times):
        self.asked += len(clients)
        return self.there(clients, times)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_draw_asks_about_as_many_clients_however_many_there_are(is_weighted):
    asked = []
    for num_clients in (2_000, 200_000):
        there = _Counting(availability.on_off(1e4, 1e4, rng=_rng(3)))
        weights = np.ones(num_clients) if is_weighted else None
        idle = IdleClients(num_clients, there, weights=weights, rng=_rng())
        for now in range(5000):
            drawn = idle.pop(float(now))
            assert drawn is not None
            idle.add(drawn[0])
        asked.append(there.asked)
    assert asked[1] < 4 * asked[0]
    assert asked[1] < 10 * 5000


# Any order of draws and returns, against a set


@st.composite
def _availabilities(draw, num_clients: int) -> Availability:
    seed = draw(st.integers(0, 99))
    match draw(st.sampled_from(["always", "on-off", "daily", "replay"])):
        case "always":
            return availability.always()
        case "on-off":
            means = draw(st.tuples(st.floats(5, 90), st.floats(5, 200)))
            return availability.on_off(*means, rng=_rng(seed))
        case "daily":
            shift = _rng(seed).uniform(0, 100, num_clients)
            return availability.daily(0.0, 30.0, period=100.0, shift=shift)
        case _:
            edges = np.cumsum(_rng(seed).exponential(30.0, (num_clients, 6)), axis=1)
            start, end = edges[:, ::2].ravel(), edges[:, 1::2].ravel()
            client = np.repeat(np.arange(num_clients), 3)
            return availability.replay(client, start, end, num_clients)


class _Model(RuleBasedStateMachine):
    """What ``IdleClients`` must do, with sets."""

    @initialize(data=st.data(), seed=st.integers(0, 999))
    def make(self, data, seed):
        num_clients = data.draw(st.integers(1, 6) | st.sampled_from([128, 129, 140]))
        self.there = data.draw(_availabilities(num_clients))
        self.max_tasks = data.draw(st.sampled_from([None, 1, 2, 50]))
        weights = data.draw(st.sampled_from(["none", "all", "half"]))
        shares = _rng(seed).uniform(0.1, 1, num_clients)
        if weights == "half":
            shares[1::2] = 0.0
        self.sut = IdleClients(
            num_clients,
            self.there,
            weights=None if weights == "none" else shares,
            max_tasks=self.max_tasks,
            rng=_rng(seed),
        )
        self.idle = set(range(num_clients))
        if weights == "half":
            self.idle = set(range(0, num_clients, 2))
        self.busy: list[int] = []
        self.num_tasks = dict.fromkeys(range(num_clients), 0)
        self.now = 0.0

    def _there(self) -> dict[int, float]:
        """Return those that could be drawn, and until when they are there."""
        clients = np.array(sorted(self.idle), int)
        there, until = self.there(clients, np.full(len(clients), self.now))
        return dict(zip(clients[there].tolist(), until[there].tolist(), strict=True))

    @rule(wait=st.floats(0, 20) | st.floats(0, 200))
    def go_on(self, wait):
        self.now += wait

    @rule(most=st.integers(1, 5) | st.just(200))
    def draw(self, most):
        for _ in range(most):
            present = self._there()
            drawn = self.sut.pop(self.now)
            if drawn is None:
                assert not present
                self._check_return()
                return
            client, until = drawn
            assert present[client] == until
            self.idle.remove(client)
            self.busy.append(client)

    def _check_return(self):
        """It may be a little early, so that it is asked again, but never late."""
        idle = np.array(sorted(self.idle), int)
        back = next_available(self.there, idle, self.now).min(initial=math.inf)
        assert self.now < self.sut.next_return <= back
        if not len(idle):
            assert self.sut.next_return == math.inf

    @precondition(lambda self: self.busy)
    @rule(place=st.integers(0, 999), most=st.integers(1, 5))
    def end(self, place, most):
        for _ in range(min(most, len(self.busy))):
            client = self.busy.pop(place % len(self.busy))
            self.sut.add(client)
            self.num_tasks[client] += 1
            if self.num_tasks[client] != self.max_tasks:
                self.idle.add(client)

    @rule()
    def wait_for_somebody(self):
        """Asking again when somebody is back finds them, in a few steps."""
        if self._there():
            return
        for _ in range(60):
            self.draw(1)
            if self.busy or self.sut.next_return == math.inf:
                return
            self.now = self.sut.next_return


def test_any_order_of_draws_and_returns_is_that_of_a_set():
    budget = settings(
        deadline=None, derandomize=True, max_examples=100, stateful_step_count=30
    )
    run_state_machine_as_test(_Model, settings=budget)
