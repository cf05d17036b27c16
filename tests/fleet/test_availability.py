"""When devices can take part: closed forms, a literal walk, errors of one line."""

import bisect
import math
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax.fleet.availability import (
    Availability,
    all_of,
    always,
    away_windows,
    daily,
    next_available,
    on_off,
    replay,
)

_REPEATABLE = settings(deadline=None, derandomize=True)
_CLIENTS = 7
_MEANS = [(600.0, 600.0), (50.0, 2000.0), (3000.0, 20.0), (1e-3, 1e-2), (1e6, 1e3)]


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


def _recorded(num_clients: int = _CLIENTS) -> Availability:
    """Return some windows of most clients; the last one has none."""
    ends = np.cumsum(_rng(5).exponential(300.0, (num_clients - 1, 40)), axis=1)
    client = np.repeat(np.arange(num_clients - 1), 20)
    return replay(client, ends[:, ::2].ravel(), ends[:, 1::2].ravel(), num_clients)


def _some() -> dict[str, Availability]:
    shift = np.linspace(-5e4, 5e4, _CLIENTS)
    length = np.linspace(1.0, 86400.0, _CLIENTS)
    return {
        "always": always(),
        "on-off": on_off(600.0, 300.0, rng=_rng(1)),
        "rare": on_off(7.0, 1000.0, rng=_rng(2)),
        "frequent": on_off(1000.0, 7.0, rng=_rng(3)),
        "daily": daily(79_200.0, 21_600.0, shift=shift),
        "daily-lengths": daily(np.arange(7.0), length, shift=0.1),
        "short-days": daily(0.3, 0.1, period=0.7, shift=-0.123),
        "recorded": _recorded(),
        "all": all_of(
            daily(20_000.0, 80_000.0), on_off(60, 30, rng=_rng(6)), _recorded()
        ),
        "none": all_of(),
    }


_SOME = _some()


# What every availability keeps


@pytest.mark.parametrize("name", _SOME)
def test_state_holds_until_it_says(name):
    there = _SOME[name]
    clients = np.tile(np.arange(_CLIENTS), 300)
    times = _rng().uniform(0, 2e4, clients.size) * _rng().choice([1, 50], clients.size)
    on, until = there(clients, times)
    assert on.dtype == bool and until.dtype == np.float64
    assert on.shape == until.shape == clients.shape
    assert (until > times).all()
    within = np.minimum(until, 1e7)
    for moment in (
        times + _rng(1).random(times.size) * (within - times) * 0.999,
        np.nextafter(within, -math.inf),
    ):
        still, end = there(clients, np.maximum(moment, times))
        np.testing.assert_array_equal(still, on)
        np.testing.assert_array_equal(end[on], until[on])
    ends = until < math.inf
    next_on, next_until = there(clients[ends], until[ends])
    assert not next_on[on[ends]].any()
    assert (next_until > until[ends]).all()


@pytest.mark.parametrize("name", _SOME)
def test_answers_depend_neither_on_order_nor_on_company(name):
    there = _SOME[name]
    clients = _rng().integers(0, _CLIENTS, 10_000)
    times = _rng(1).uniform(0, 1e6, clients.size)
    on, until = there(clients, times)
    order = _rng(2).permutation(clients.size)
    for part in (order, order[:100], order[:1], order[:0]):
        again, end = there(clients[part].astype(np.int32), times[part])
        np.testing.assert_array_equal(again, on[part])
        np.testing.assert_array_equal(end, until[part])


@pytest.mark.parametrize("name", _SOME)
def test_one_time_for_all(name):
    clients = np.arange(_CLIENTS)
    for time in (0, 12_345.678, np.float64(5.0), np.array(77.0)):
        one = _SOME[name](clients, time)
        each = _SOME[name](clients, np.full(_CLIENTS, float(time)))
        np.testing.assert_array_equal(one, each)


@pytest.mark.parametrize("name", _SOME)
def test_equal_by_value(name):
    assert _SOME[name] == _some()[name]
    assert [other for other in _SOME if _SOME[name] == _SOME[other]] == [name]


def test_seed_decides_and_is_shown():
    assert on_off(2, 3, rng=_rng(1)) != on_off(2, 3, rng=_rng(2))
    assert "OnOff(mean_on=2.0, mean_off=3.0" in repr(on_off(2, 3, rng=_rng(1)))
    rng = _rng(1)
    assert on_off(2, 3, rng=rng) != on_off(2, 3, rng=rng)


# Coming and going, walked mark by mark

_MASK = 2**64 - 1


def _marks_of_cell(chain, kind: int, client: int, cell: int) -> list[float]:
    """Return the times of the marks in a cell, with Python's integers."""
    mean = (chain.mean_on, chain.mean_off)[kind]
    length = 2.0 ** round(math.log2(8 * mean))
    bits = (client * 2**32 + cell) * 0x9E3779B97F4A7C15 & _MASK
    bits ^= bits >> 29
    bits = (bits ^ chain.salt[kind]) * 0xBF58476D1CE4E5B9 & _MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & _MASK
    bits ^= bits >> 31
    uniform, seed = (bits >> 33) / 2**31, bits % 2**32
    count, term = 0, math.exp(-length / mean)
    while uniform >= term:
        uniform -= term
        count += 1
        term *= length / mean / count
    times = []
    for row in range(count):
        mark = (seed + row * 0x9E3779B9) % 2**32
        mark = (mark ^ (mark >> 16)) * 0x7FEB352D % 2**32
        mark = (mark ^ (mark >> 15)) * 0x846CA68B % 2**32
        mark ^= mark >> 16
        times.append((cell + (mark >> 6) / 2**26) * length)
    return times


def _walk(chain, client: int, begin: float, end: float) -> list[tuple[float, bool]]:
    """Return the changes around [begin, end]: when, and to which state."""
    marks = []
    for kind, mean in enumerate((chain.mean_on, chain.mean_off)):
        length = 2.0 ** round(math.log2(8 * mean))
        margin = 2 * max(chain.mean_on, chain.mean_off) * 20
        first, last = (math.floor(t / length) for t in (begin - margin, end + margin))
        for cell in range(first, last + 1):
            times = _marks_of_cell(chain, kind, client, cell)
            marks += [(time, kind == 1) for time in times]
    changes = []
    for time, state in sorted(marks):
        if not changes or changes[-1][1] != state:
            changes.append((time, state))
    return changes


@pytest.mark.parametrize("means", [(600, 600), (100, 900), (900, 100), (1, 2)])
@pytest.mark.parametrize("begin", [0.0, 86_400.0, 4.5e7])
def test_equal_to_the_literal_walk(means, begin):
    chain = on_off(*means, rng=_rng(3))
    for client in (0, 1, 12_345, 2**31):
        end = begin + 10 * max(means)
        changes = _walk(chain, client, begin, end)
        moments = [time for time, _ in changes]
        times = _rng(4).uniform(begin, end, 100)
        on, until = chain(np.full(times.size, client), times)
        back = next_available(chain, np.full(times.size, client), times)
        for row, time in enumerate(times):
            place = bisect.bisect_right(moments, time)
            assert on[row] == changes[place - 1][1]
            assert time < until[row] <= moments[place]
            assert not on[row] or until[row] == moments[place]
            assert back[row] == (time if on[row] else moments[place])


# Coming and going, in distribution


def _distance(sample: np.ndarray, mean: float) -> float:
    """Return Kolmogorov's distance to the exponential law, times sqrt(n)."""
    law = 1 - np.exp(-np.sort(sample) / mean)
    steps = np.arange(len(law) + 1) / len(law)
    far = np.maximum(np.abs(law - steps[1:]), np.abs(law - steps[:-1]))
    return math.sqrt(len(law)) * far.max()


_CRITICAL = 1.95  # exceeded with probability 0.001


def _histories(chain: Availability, num_clients: int, num_changes: int) -> Iterator:
    """Yield state before, and time of, every next change of all clients."""
    clients, times = np.arange(num_clients), np.zeros(num_clients)
    for _ in range(num_changes):
        on, until = chain(clients, times)
        back = next_available(chain, clients, times, horizon=math.inf)
        times = np.where(on, until, back)
        yield on, times


@pytest.mark.parametrize("means", _MEANS)
def test_share_is_stationary_from_the_start(means):
    chain = on_off(*means, rng=_rng(7))
    size, share = 40_000, means[0] / sum(means)
    deviation = math.sqrt(share * (1 - share) / size)
    for time in np.array([0, 0.1, 1, 7.7, 1000.3]) * min(means):
        on, _ = chain(np.arange(size), time)
        assert abs(on.mean() - share) < 4 * deviation


@pytest.mark.parametrize("means", _MEANS)
def test_stays_and_absences_are_exponential_and_independent(means):
    chain = on_off(*means, rng=_rng(8))
    history = list(_histories(chain, 3000, 6))
    on = np.array([state for state, _ in history])
    lasts = np.diff([times for _, times in history], axis=0)
    assert (on[1:] != on[:-1]).all()
    assert _distance(lasts[on[1:]], means[0]) < _CRITICAL
    assert _distance(lasts[~on[1:]], means[1]) < _CRITICAL
    scaled = lasts / np.where(on[1:], *means)
    assert abs(np.corrcoef(scaled)[np.triu_indices(5, 1)]).max() < 4 / math.sqrt(3000)


@pytest.mark.parametrize("means", _MEANS)
def test_what_is_left_is_exponential_too(means):
    chain = on_off(*means, rng=_rng(9))
    clients, now = np.arange(20_000), 123.4 * min(means)
    on, until = chain(clients, now)
    back = next_available(chain, clients[~on], now, horizon=math.inf)
    assert _distance(until[on] - now, means[0]) < _CRITICAL
    assert _distance(back - now, means[1]) < _CRITICAL


@pytest.mark.parametrize("means", _MEANS)
def test_covariance_falls_exponentially(means):
    chain = on_off(*means, rng=_rng(10))
    size, share, rate = 100_000, means[0] / sum(means), 1 / means[0] + 1 / means[1]
    first = chain(np.arange(size), 5 / rate)[0] - share
    for apart in (0.1, 0.5, 1.0, 2.0, 5.0):
        second = chain(np.arange(size), (5 + apart) / rate)[0] - share
        product = first * second
        expected = share * (1 - share) * math.exp(-apart)
        assert abs(product.mean() - expected) < 4 * product.std() / math.sqrt(size)


def test_clients_and_chains_are_independent():
    rng, size, now = _rng(11), 100_000, 1e5
    one, other = (on_off(60, 60, rng=rng) for _ in range(2))
    clients = np.arange(size + 32)
    states = one(clients, now)[0] * 2.0 - 1
    for lag in (1, 2, 3, 8, 32):
        assert abs(np.mean(states[:size] * states[lag:][:size])) < 4 / math.sqrt(size)
    others = other(clients, now)[0] * 2.0 - 1
    assert abs(np.mean(states * others)) < 4 / math.sqrt(size)
    assert np.mean(one(clients, now)[1] == other(clients, now)[1]) < 1e-3


def test_marks_of_a_cell_are_poisson_and_uniform():
    chain = on_off(60, 60, rng=_rng(12))
    cells = np.arange(100_000.0)
    marks = chain._marks(np.full(cells.size, 3), cells, 0)  # pyright: ignore
    places = marks[marks < 2**26] / 2**26
    counts = np.bincount((marks < 2**26).sum(axis=0), minlength=20)
    mean = 512 / 60  # a power of two of the length
    expected = [math.exp(-mean) * mean**k / math.factorial(k) for k in range(20)]
    error = (counts[:20] / cells.size - expected) / np.sqrt(np.divide(expected, 1e5))
    assert np.abs(error).max() < 4
    assert _distance(-np.log1p(-places), 1.0) < _CRITICAL
    inside = np.where(marks < 2**26, marks / 2**26 - 0.5, 0.0)
    for row in range(1, 8):
        correlation = np.mean(inside[0] * inside[row]) * 12
        assert abs(correlation) < 4 / math.sqrt(cells.size)


def test_asked_too_far_ahead():
    chain = on_off(1000.0, 1.0, rng=_rng())
    limit = 2**27 * 8
    assert (chain(np.arange(50), np.nextafter(limit, 0))[1] >= limit).all()
    for time in (float(limit), math.inf, math.nan):
        with _fails(f"on_off: times must be < {limit:g} s, got {time}"):
            chain(np.arange(2), np.array([0.0, time]))


# Every day


def test_daily_windows():
    night = daily(22 * 3600.0, 8 * 3600.0, shift=np.array([0.0, 2 * 3600.0]))
    on, until = night(np.array([0, 0, 0, 1, 1]), np.array([21, 22, 29, 19, 4]) * 3600.0)
    np.testing.assert_array_equal(on, [False, True, True, False, False])
    np.testing.assert_array_equal(until / 3600, [22, 30, 30, 20, 20])
    morning, _ = night(np.array([0, 0, 1, 1]), np.array([5, 6, 3, 4]) * 3600.0)
    np.testing.assert_array_equal(morning, [True, False, True, False])


def test_whole_days_never_end():
    mixed = daily(5.0, np.array([10.0, 3.0]), period=10.0, shift=0.1)
    on, until = mixed(np.array([0, 0, 1]), np.array([4.9, 1e9, 4.9]))
    np.testing.assert_array_equal(on, [True, True, True])
    np.testing.assert_allclose(until, [np.inf, np.inf, 7.9])


def test_daily_windows_hold_to_the_last_bit():
    size, rng = 20_000, _rng(13)
    start, length, shift = rng.uniform([[0], [1], [-1e5]], 86_399, (3, size))
    there, clients = daily(start, length, shift=shift), np.arange(size)
    now = rng.uniform(0, 1e9, size)
    into = (now + shift - start) % 86_400
    np.testing.assert_array_equal(there(clients, now)[0], into < length)
    for _ in range(4):
        on, until = there(clients, now)
        assert (until > now).all()
        before = np.nextafter(until, -math.inf)
        np.testing.assert_array_equal(there(clients, before)[0], on)
        np.testing.assert_array_equal(there(clients, until)[0], ~on)
        now = until


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"start": -1.0}, "start must be in [0, 86400) s, got -1.0"),
        ({"start": 86_400.0}, "start must be in [0, 86400) s, got 86400.0"),
        ({"length": 0.0}, "length must be in (0, 86400] s, got 0.0"),
        (
            {"length": np.array([1, 9e4])},
            "length must be in (0, 86400] s, got 90000.0 in row 1",
        ),
        ({"length": math.nan}, "length must be in (0, 86400] s, got nan"),
        ({"period": 0.0}, "period must be finite and > 0 s, got 0.0"),
        ({"shift": np.array([0, math.inf])}, "shift must be finite, got inf in row 1"),
        (
            {"shift": np.zeros(3), "start": np.zeros(2)},
            "arrays must be [C], got shapes [(2,), (3,)]",
        ),
        ({"shift": np.zeros((3, 1))}, "arrays must be [C], got shapes [(3, 1)]"),
    ],
)
def test_daily_refuses(arguments, line):
    with _fails(f"daily: {line}"):
        daily(**{"start": 0.0, "length": 1.0} | arguments)


@pytest.mark.parametrize("mean", [0.0, -1.0, math.inf, math.nan])
def test_on_off_refuses(mean):
    with _fails(f"on_off: mean_on must be finite and > 0 s, got {mean}"):
        on_off(mean, 1.0, rng=_rng())
    with _fails(f"on_off: mean_off must be finite and > 0 s, got {mean}"):
        on_off(1.0, mean, rng=_rng())


# All of


def test_all_of_is_a_conjunction():
    parts = [on_off(60, 30, rng=_rng(i)) for i in range(3)]
    clients, times = np.arange(1000), _rng().uniform(0, 1e4, 1000)
    answers = [part(clients, times) for part in parts]
    on, until = all_of(*parts)(clients, times)
    states, ends = (np.array(column) for column in zip(*answers, strict=True))
    np.testing.assert_array_equal(on, states.all(axis=0))
    np.testing.assert_array_equal(until[on], ends.min(axis=0)[on])
    first_off = ends[np.argmin(states, axis=0), np.arange(1000)]
    np.testing.assert_array_equal(until[~on], first_off[~on])
    nested = all_of(parts[0], all_of(*parts[1:]))(clients, times)
    np.testing.assert_array_equal(nested, (on, until))


def test_all_of_asks_the_later_ones_about_fewer():
    asked = []

    def odd(clients, times):
        asked.append(clients.tolist())
        assert (times == 5.0 + clients).all()
        return clients % 2 == 1, np.full(len(clients), 99.0)

    def large(clients, times):
        asked.append(clients.tolist())
        return clients > 3, np.full(len(clients), 88.0)

    on, until = all_of(odd, large)(np.arange(6), 5.0 + np.arange(6))
    assert asked == [[0, 1, 2, 3, 4, 5], [1, 3, 5]]
    np.testing.assert_array_equal(on, [False] * 5 + [True])
    np.testing.assert_array_equal(until, [99, 88, 99, 88, 99, 88])


# Recorded windows


def test_recorded_windows_that_touch_are_one():
    there = replay(
        np.array([1, 1, 0, 1]),
        np.array([5.0, 0.0, 2.0, 3.0]),
        np.array([6.0, 3.0, math.inf, 4.0]),
        3,
    )
    on, until = there(np.array([1, 1, 1, 0, 0, 2]), np.array([0, 4, 5.5, 0, 9, 0.0]))
    np.testing.assert_array_equal(on, [True, False, True, False, True, False])
    np.testing.assert_array_equal(until, [4, 5, 6, 2, np.inf, np.inf])


@_REPEATABLE
@given(data=st.data())
def test_recorded_windows_as_one_by_one(data):
    edges = st.lists(st.integers(0, 30), unique=True, max_size=12).map(sorted)
    rows = [
        (client, start, end)
        for client in range(4)
        for start, end in zip(*[iter(data.draw(edges))] * 2, strict=False)
    ]
    rows = data.draw(st.permutations(rows))
    client, start, end = np.array(rows, int).reshape(-1, 3).T
    there = replay(client, start, end, 5)
    clients, times = (x.ravel() for x in np.mgrid[0:5, 0:64])
    on, until = there(clients, times / 2)
    for i, t, state, last in zip(clients, times / 2, on, until, strict=True):
        windows = sorted((a, b) for c, a, b in rows if c == i)
        inside = [b for a, b in windows if a <= t < b]
        later = [a for a, _ in windows if a > t]
        assert state == bool(inside)
        expected = inside[0] if inside else min(later, default=math.inf)
        while state and (again := [b for a, b in windows if a == expected]):
            expected = again[0]
        assert last == expected


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ((2, 0.0, 1.0), "client must be an integer in 0..1, got 2 in row 1"),
        ((-1, 0.0, 1.0), "client must be an integer in 0..1, got -1 in row 1"),
        ((0.5, 0.0, 1.0), "client must be an integer in 0..1, got 0.5 in row 1"),
        ((0, math.nan, 1.0), "start must be finite and >= 0 s, got nan in row 1"),
        ((0, -0.5, 1.0), "start must be finite and >= 0 s, got -0.5 in row 1"),
        ((0, math.inf, math.inf), "start must be finite and >= 0 s, got inf in row 1"),
        (
            (0, 3.0, math.nan),
            "end must be > start (the window runs backwards), got nan in row 1",
        ),
        (
            (0, 3.0, 3.0),
            "end must be > start (the window runs backwards), got 3.0 in row 1",
        ),
        (
            (0, 7.0, 9.0),
            "windows of a client must not overlap, got rows 1 and 2 of client 0",
        ),
        (
            (0, 6.0, 7.0),
            "windows of a client must not overlap, got rows 1 and 2 of client 0",
        ),
    ],
)
def test_replay_refuses(row, line):
    client, start, end = zip((1, 0.0, 1.0), row, (0, 5.0, 8.0), strict=True)
    with _fails(f"replay: {line}"):
        replay(np.array(client), np.array(start), np.array(end), 2)


def test_replay_refuses_columns_of_other_lengths():
    line = "client, start, end must be [W], got shapes (2,), (3,), (2,)"
    with _fails(f"replay: {line}"):
        replay(np.zeros(2, int), np.zeros(3), np.ones(2), 2)


# Searching


def test_next_available_is_the_first_moment():
    there = _SOME["all"]
    clients = np.tile(np.arange(_CLIENTS), 50)
    times = _rng().uniform(0, 6000, clients.size)
    back = next_available(there, clients, times)
    assert (back >= times).all()
    assert (back[there(clients, times)[0]] == times[there(clients, times)[0]]).all()
    assert (back[clients == _CLIENTS - 1] == math.inf).all()
    found = back < math.inf
    assert found.any()
    assert there(clients[found], back[found])[0].all()
    for moment in (
        np.nextafter(back, -math.inf),
        _rng(1).uniform(times, back.clip(0, 1e4)),
    ):
        between = found & (times <= moment) & (moment < back)
        assert not there(clients[between], moment[between])[0].any()


def test_next_available_gives_up():
    never = all_of(on_off(60, 60, rng=_rng()), daily(0.0, 3600.0), daily(7200.0, 60.0))
    clients = np.arange(3)
    assert (next_available(never, clients, 0.0) == math.inf).all()
    late = replay(np.array([0]), np.array([100.0]), np.array([math.inf]), 1)
    for horizon, expected in ((99.9, math.inf), (100.0, 100.0), (math.inf, 100.0)):
        back = next_available(late, np.array([0]), np.array([0.0]), horizon=horizon)
        assert back == expected
    assert next_available(late, np.array([0]), np.array([math.inf])) == math.inf
    assert next_available(late, np.zeros(0, int), np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("name", _SOME)
def test_away_windows_are_what_is_left(name):
    there, begin, end = _SOME[name], 1000.0, 9000.0
    if name == "short-days":
        end = 1010.0
    for client in (0, 3, _CLIENTS - 1):
        windows = away_windows(there, client, begin, end)
        assert windows.shape == (len(windows), 2)
        assert (windows[:, 0] < windows[:, 1]).all()
        assert (windows[1:, 0] > windows[:-1, 1]).all()
        times = _rng().uniform(begin, end, 1000)
        away = ((windows[:, :1] <= times) & (times < windows[:, 1:])).any(axis=0)
        on, _ = there(np.full(times.size, client), times)
        np.testing.assert_array_equal(on, ~away)
        assert not len(windows) or (begin <= windows[0, 0] and windows[-1, 1] <= end)


def test_away_windows_of_an_empty_stretch():
    assert away_windows(always(), 0, 5.0, 5.0).shape == (0, 2)
    assert away_windows(_SOME["recorded"], _CLIENTS - 1, 5.0, 7.0).tolist() == [
        [5.0, 7.0]
    ]
