"""When devices can take part: a pure function of client and time.

Whoever asks again gets the same answer, in any order and company, so that all methods
that are compared meet the same world, and nothing is stored per event.

Shapes: n queries, C clients. Times are simulated seconds; states hold on [time, until).
"""

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fedasync_jax.fleet.on_off import OnOff
from fedasync_jax.parts.convert import converted

PAUSE, LOSE = "pause", "lose"  # what happens to a task whose device goes away

_DAY = 86_400.0
_PARTS = 64  # of a stretch of time that are looked at together

Times = np.ndarray | float
_State = tuple[np.ndarray, np.ndarray]


class Availability(Protocol):
    """When each device is available."""

    def __call__(self, clients: np.ndarray, times: Times) -> _State:
        """Look devices up.

        Args:
          clients: int [n], in 0..C-1.
          times: float64 [n], or one for all.

        Returns:
          bool [n], available at that time; float64 [n] > time, until when that stays
          so: exactly the moment when an available device leaves (inf: never), no later
          than the moment when one that is away returns (inf: never).
        """
        ...


def always() -> Availability:
    """Return the availability of devices that never leave."""
    return _Always()


@converted
def on_off(
    mean_on: float, mean_off: float, *, rng: np.random.Generator
) -> Availability:
    """Return devices that come and go without memory, independent of each other.

    A two-state Markov chain per client, stationary from the start. On with probability
    p = mean_on / (mean_on + mean_off); with r = 1 / mean_on + 1 / mean_off, states that
    are dt apart have the covariance p (1 - p) exp(-r dt).

    Args:
      mean_on: mean seconds of a stay, exponential, > 0.
      mean_off: mean seconds of an absence, exponential, > 0.
      rng: source of the chains.

    Raises:
      ValueError: if a mean is not positive and finite; when asked about a time beyond
        some 10^9 times the shorter mean.
    """
    for name, mean in (("mean_on", mean_on), ("mean_off", mean_off)):
        if not 0 < mean < math.inf:
            raise ValueError(f"on_off: {name} must be finite and > 0 s, got {mean}")
    leave, back = rng.integers(0, 2**64, size=2, dtype=np.uint64).tolist()
    return OnOff(float(mean_on), float(mean_off), (leave, back))


def daily(
    start: float | np.ndarray,
    length: float | np.ndarray,
    *,
    period: float = _DAY,
    shift: float | np.ndarray = 0.0,
) -> Availability:
    """Return devices that are available once a day, in [start, start + length).

    Args:
      start: local time, seconds in [0, period), one or float [C].
      length: seconds in (0, period], one or float [C]; may reach over midnight. A
        device with the whole period never leaves.
      period: seconds of a day.
      shift: local time minus simulated time, seconds, one or float [C].

    Raises:
      ValueError: if a number is out of range or the shapes differ.
    """
    if not 0 < period < math.inf:
        raise ValueError(f"daily: period must be finite and > 0 s, got {period}")
    start, length, shift = (np.asarray(x, float) for x in (start, length, shift))
    shapes = {x.shape for x in (start, length, shift)} - {()}
    if len(shapes) > 1 or any(len(shape) > 1 for shape in shapes):
        raise ValueError(f"daily: arrays must be [C], got shapes {sorted(shapes)}")
    in_day = (start >= 0) & (start < period)
    _require("daily: start", start, in_day, f"in [0, {period:g}) s")
    in_day = (length > 0) & (length <= period)
    _require("daily: length", length, in_day, f"in (0, {period:g}] s")
    _require("daily: shift", shift, np.isfinite(shift), "finite")
    return _Daily(start, length, float(period), shift)


def all_of(*availabilities: Availability) -> Availability:
    """Return devices that are available when all of these say so.

    Idle, charging and unmetered, say. The later ones are asked only about devices that
    all the earlier ones let pass: what is cheap or rarely true belongs in front.
    """
    return _AllOf(availabilities)


def replay(
    client: np.ndarray, start: np.ndarray, end: np.ndarray, num_clients: int
) -> Availability:
    """Return devices that are available as recorded, in windows [start, end).

    Windows that touch are one; a client without windows is never available.

    Args:
      client: int [W], in any order.
      start: float [W], finite and >= 0.
      end: float [W], > ``start``; inf: for good.
      num_clients: C.

    Raises:
      ValueError: if a window is out of range, runs backwards or overlaps another one
        of its client; the message names the row, counted from 0.
    """
    client, start, end = (
        np.asarray(client),
        np.array(start, float),
        np.array(end, float),
    )
    if client.ndim != 1 or not client.shape == start.shape == end.shape:
        shapes = f"{client.shape}, {start.shape}, {end.shape}"
        raise ValueError(f"replay: client, start, end must be [W], got shapes {shapes}")
    known = (client >= 0) & (client < num_clients) & (client % 1 == 0)
    _require("replay: client", client, known, f"an integer in 0..{num_clients - 1}")
    timely = (start >= 0) & (start < math.inf)
    _require("replay: start", start, timely, "finite and >= 0 s")
    _require("replay: end", end, end > start, "> start (the window runs backwards)")
    order = np.lexsort((start, client))
    client, start, end = client[order].astype(int), start[order], end[order]
    same = client[1:] == client[:-1]
    overlaps = np.flatnonzero(same & (start[1:] < end[:-1]))
    if overlaps.size:
        rows = sorted(order[overlaps[0] : overlaps[0] + 2].tolist())
        raise ValueError(
            f"replay: windows of a client must not overlap, got rows {rows[0]} and "
            f"{rows[1]} of client {client[overlaps[0]]}"
        )
    opens = _opens(start, same & (start[1:] == end[:-1]))
    return _Replay(client[opens], start[opens], end[np.roll(opens, -1)])


def next_available(
    availability: Availability,
    clients: np.ndarray,
    times: Times,
    *,
    horizon: float = 366 * _DAY,
) -> np.ndarray:
    """Return the first moments >= ``times`` at which devices are available.

    Args:
      availability: of C clients.
      clients: int [n].
      times: float64 [n], or one for all.
      horizon: seconds. Who is not back within it counts as gone for good, so that the
        search ends even among windows that never meet.

    Returns:
      float64 [n]; inf: not within ``horizon``.
    """
    moment = np.array(np.broadcast_to(times, clients.shape), float)
    latest = moment + horizon
    pending = np.flatnonzero(moment < math.inf)
    while pending.size:
        on, until = availability(clients[pending], moment[pending])
        pending, until = pending[~on], until[~on]
        until[until > latest[pending]] = math.inf
        moment[pending] = until
        pending = pending[until < math.inf]
    return moment


def away_windows(
    availability: Availability, client: int, begin: float, end: float
) -> np.ndarray:
    """Return from when until when a client is away in [begin, end), float64 [m, 2]."""
    edges = np.linspace(begin, max(begin, end), _PARTS + 1)
    now, last = edges[:-1], edges[1:]
    away = [np.zeros((0, 2))]
    while (now < last).any():
        now, last = now[now < last], last[now < last]
        on, until = availability(np.full(len(now), client), now)
        until = np.minimum(until, last)
        away.append(np.stack([now[~on], until[~on]], axis=1))
        now = until
    start, end_of = np.sort(np.concatenate(away), axis=0).T
    opens = _opens(start, start[1:] == end_of[:-1])
    return np.stack([start[opens], end_of[np.roll(opens, -1)]], axis=1)


def _opens(start: np.ndarray, goes_on: np.ndarray) -> np.ndarray:
    """Return which windows do not go on the one before, bool [W]."""
    return np.insert(~goes_on, 0, True)[: len(start)]


def _require(name: str, values: np.ndarray, right: np.ndarray, allowed: str) -> None:
    if not right.all():
        row = int(np.argmin(right))
        place = f" in row {row}" if right.ndim else ""
        raise ValueError(f"{name} must be {allowed}, got {values.flat[row]}{place}")


@dataclass(frozen=True)
class _Always:
    def __call__(self, clients: np.ndarray, times: Times) -> _State:
        return np.ones(len(clients), bool), np.full(len(clients), math.inf)


class _ByValue:
    """Equality of dataclasses that hold arrays."""

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name))
            for field in fields(other)
        )


@dataclass(frozen=True, eq=False)
class _Daily(_ByValue):
    start: np.ndarray
    length: np.ndarray
    period: float
    shift: np.ndarray

    def __call__(self, clients: np.ndarray, times: Times) -> _State:
        start, length, shift = (
            x[clients] if x.ndim else x for x in (self.start, self.length, self.shift)
        )
        first, times = start - shift, np.zeros(clients.shape) + times
        day = np.floor((times - first) / self.period)
        day -= first + day * self.period > times  # rounded
        day += first + (day + 1) * self.period <= times
        leave = first + day * self.period + length
        leave = np.where(length == self.period, math.inf, leave)
        on = times < leave
        return on, np.where(on, leave, first + (day + 1) * self.period)


@dataclass(frozen=True)
class _AllOf:
    parts: tuple[Availability, ...]

    def __call__(self, clients: np.ndarray, times: Times) -> _State:
        times = np.zeros(clients.shape) + times
        on, until = always()(clients, times)
        for part in self.parts:
            left = np.flatnonzero(on)
            on[left], end = part(clients[left], times[left])
            until[left] = np.where(on[left], np.minimum(until[left], end), end)
        return on, until


@dataclass(frozen=True, eq=False)
class _Replay(_ByValue):
    """Windows sorted by (client, start), none touching another one of its client."""

    client: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __call__(self, clients: np.ndarray, times: Times) -> _State:
        ranked, keys, (client, start, end) = self._index
        rank = np.searchsorted(ranked, times, side="right")
        query = np.asarray(clients, np.int64) * (len(ranked) + 1) + rank
        row = np.searchsorted(keys, query, side="right")  # the last one that has begun
        on = (client[row] == clients) & (times < end[row])
        back = np.where(client[row + 1] == clients, start[row + 1], math.inf)
        return on, np.where(on, end[row], back)

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return starts in order; keys (client, rank of the start); padded windows."""
        ranked = np.sort(self.start)
        rank = np.searchsorted(ranked, self.start, side="right")
        windows = np.array([self.client, self.start, self.end])
        padded = np.pad(windows, ((0, 0), (1, 1)), constant_values=-1)
        return ranked, self.client * (len(ranked) + 1) + rank, padded
