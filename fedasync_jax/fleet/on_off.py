"""Devices that come and go without memory, looked up at any time at the same cost.

Shapes: n queries, K marks in a cell. Times are simulated seconds.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_MARKS_PER_CELL = 8.0  # fewer: more cells to look at; more: more marks in each
_TICKS = 2**26  # places in a cell
_MAX_CELLS = 2**27  # beyond, float64 does not tell the ticks apart
_LEAVES, _ALL = 0, slice(None)  # kinds of marks: leaves are 0, returns 1
_BLOCK = 8192  # queries that are answered together, for the size of the caches
_WEYL, _WEYL_32 = np.uint64(0x9E3779B97F4A7C15), np.uint32(0x9E3779B9)
_MIX = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_MIX_32 = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)


@dataclass(frozen=True)
class OnOff:
    """Marks on the time line say whether the device is there from then on.

    Leave marks are a Poisson process of rate 1 / mean_on, return marks another one of
    rate 1 / mean_off; a mark that repeats the state changes nothing. Together they are
    the resets of uniformization, of rate r, each "on" with probability p. A cell of
    time holds a Poisson number of marks (cut off where its probability is below 2^-31)
    at independent, uniform places, all from one hash of (salt, client, cell). Lengths
    of cells are powers of two and places multiples of 2^-26 of them, so that float64
    holds the times of marks exactly.
    """

    mean_on: float
    mean_off: float
    salt: tuple[int, int]

    def __call__(
        self, clients: np.ndarray, times: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Look devices up, see ``Availability``."""
        clients = np.asarray(clients, np.int64)
        times = np.zeros(clients.shape) + times
        if len(times) > _BLOCK:
            parts = [
                self(clients[begin : begin + _BLOCK], times[begin : begin + _BLOCK])
                for begin in range(0, len(times), _BLOCK)
            ]
            on, until = map(np.concatenate, zip(*parts, strict=True))
            return on, until
        cell, tick, marks = self._look(clients, times)
        on = self._is_on(clients, cell, tick, marks)
        after = tick + 1
        wait = (marks - after).min(axis=0)  # unsigned: what has passed is far ahead
        following = after + np.minimum(wait, _TICKS - after)
        end = (cell + following / _TICKS) * self._seconds
        until = np.where(on, end[0], end[1])
        stays = np.flatnonzero(on & (following[0] == _TICKS))
        until[stays] = self._next_leave(clients[stays], cell[0, stays] + 1)
        return on, until

    def _look(self, clients: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return cell float64 [2, n], tick in it uint32 [2, n], marks of the cell."""
        place = times / self._seconds
        if not place.max(initial=0.0) < _MAX_CELLS:
            limit = _MAX_CELLS * self._seconds.min()
            raise ValueError(f"on_off: times must be < {limit:g} s, got {times.max()}")
        cell = np.floor(place)
        tick = ((place - cell) * _TICKS).astype(np.uint32)
        return cell, tick, self._marks(clients, cell, _ALL)

    def _is_on(
        self,
        clients: np.ndarray,
        cell: np.ndarray,
        tick: np.ndarray,
        marks: np.ndarray,
    ) -> np.ndarray:
        """Return which kind of mark was the last one, bool [n]."""
        age = (tick - marks).min(axis=0)  # unsigned: > tick is still to come
        seen = (cell + (tick - np.minimum(age, tick)) / _TICKS) * self._seconds
        last = np.where(age <= tick, seen, -math.inf)
        on = last[1] > last[0]
        since = np.maximum(seen[0], seen[1])  # other marks would have been seen
        older = np.flatnonzero(np.maximum(last[0], last[1]) < since)
        if older.size:  # nothing has happened since then
            before = since[older] - self._seconds.min() / _TICKS
            on[older] = self._is_on(clients[older], *self._look(clients[older], before))
        return on

    def _next_leave(self, clients: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Return the time of the first leave mark from a cell on, float64 [n]."""
        first = self._marks(clients, cell, _LEAVES).min(axis=0, initial=_TICKS)
        times = (cell + first / _TICKS) * self._seconds[0]
        later = np.flatnonzero(first == _TICKS)
        if later.size:
            times[later] = self._next_leave(clients[later], cell[later] + 1)
        return times

    def _marks(
        self, clients: np.ndarray, cell: np.ndarray, kind: int | slice
    ) -> np.ndarray:
        """Return places in cells, uint32 [K, 2, n] or [K, n]; 2^32 - 1: no mark."""
        bits = (cell.astype(np.int64) + (clients << 32)).view(np.uint64)
        bits *= _WEYL
        bits ^= bits >> 29
        bits ^= self._salts[kind]
        bits *= _MIX[0]
        bits ^= bits >> 27
        bits *= _MIX[1]
        bits ^= bits >> 31
        count = (bits >> 33).astype(np.int32)
        num_rows = bisect_right(self._lowest, int(count.max(initial=0))) or 1
        marks = bits.astype(np.uint32) + self._weyl[:num_rows, kind]
        marks ^= marks >> 16
        marks *= _MIX_32[0]
        marks ^= marks >> 15
        marks *= _MIX_32[1]
        marks ^= marks >> 16
        marks >>= 6
        missing = count - self._thresholds[:num_rows, kind]  # < 0
        missing >>= 31
        marks |= missing.view(np.uint32)
        return marks

    @cached_property
    def _seconds(self) -> np.ndarray:
        """Length of a cell, float64 [2, 1]."""
        means = np.array([[self.mean_on], [self.mean_off]])
        return 2.0 ** np.round(np.log2(_MARKS_PER_CELL * means))

    @cached_property
    def _salts(self) -> np.ndarray:
        return np.array(self.salt, np.uint64)[:, None]

    @cached_property
    def _thresholds(self) -> np.ndarray:
        """P(at most k marks) 2^31, int32 [K, 2, 1]: what a count > k reaches."""
        mean = self._seconds / [[self.mean_on], [self.mean_off]]
        terms = [np.exp(-mean)]
        while np.max(1 - sum(terms)) > 2**-31:
            terms.append(terms[-1] * mean / len(terms))
        most = 2**31 - 1
        return np.minimum(np.cumsum(terms, axis=0) * 2**31, most).astype(np.int32)

    @cached_property
    def _lowest(self) -> list[int]:
        return self._thresholds.min(axis=(1, 2)).tolist()

    @cached_property
    def _weyl(self) -> np.ndarray:
        rows = np.arange(len(self._thresholds), dtype=np.uint32) * _WEYL_32
        return rows[:, None, None].repeat(2, axis=1)
