"""Axes of the page: where a value lies, which values are written, and how."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_NUM_TICKS = 5


class Axis(NamedTuple):
    """One axis of a chart.

    Attributes:
      low: value at its beginning.
      high: value at its end.
      label: what it shows, with the unit.
      kind: ``number``, ``count`` (whole numbers, 1.5k) or ``share`` (per cent).
      is_log: whether it is logarithmic.
    """

    low: float
    high: float
    label: str
    kind: str = "number"
    is_log: bool = False

    def place(self, values: np.ndarray) -> np.ndarray:
        """Return where values lie, 0 at the beginning and 1 at the end."""
        low, high = self.low, self.high
        values = np.asarray(values, float)
        if self.is_log:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.log(values)
            low, high = math.log(low), math.log(high)
        return (values - low) / (high - low)

    def ticks(self) -> list[float]:
        """Return the values that are written, about five."""
        if self.is_log:
            return _log_ticks(self.low, self.high)
        step = choose_step((self.high - self.low) / _NUM_TICKS)
        if self.kind == "count":
            step = max(step, 1.0)
        first, last = (
            math.ceil(self.low / step - 1e-9),
            math.floor(self.high / step + 1e-9),
        )
        return [i * step for i in range(first, last + 1)]

    def format_tick(self, value: float) -> str:
        """Return a value as it stands at the axis."""
        if self.kind == "share":
            return f"{100 * value:.4g}%"
        return shorten_number(value)

    def format_value(self, value: float) -> str:
        """Return a value as it is told of a point."""
        if self.kind == "share":
            return f"{100 * value:.1f}%"
        return f"{value:,.0f}" if self.kind == "count" else f"{value:,.4g}"


def make_axis(
    values: Sequence[np.ndarray],
    label: str,
    *,
    kind: str = "number",
    from_zero: bool = False,
    is_log: bool = False,
    limits: tuple[float, float] | None = None,
) -> Axis:
    """Return an axis that has room for all finite values.

    Args:
      values: what is drawn.
      label: see ``Axis``, as ``kind`` and ``is_log``, which needs a value above zero.
      kind: see ``Axis``.
      from_zero: whether it begins at zero.
      is_log: see ``Axis``.
      limits: where it begins and ends, in the place of what the values ask for.
    """
    every = np.concatenate([np.zeros(0), *(np.ravel(v) for v in values)])
    every = every[np.isfinite(every)]
    positive = every[every > 0]
    is_log = is_log and positive.size > 0
    every = positive if is_log else every
    low, high = (every.min(), every.max()) if every.size else (0.0, 1.0)
    if limits is not None and (not is_log or limits[0] > 0):
        low, high = limits
    elif from_zero and not is_log:
        low = 0.0
    elif limits is None and not is_log:
        room = 0.04 * (high - low)
        low, high = low - room, high + room
    if not high > low:
        low, high = (low / 2, 2 * high) if is_log else (low, low + (abs(low) or 1.0))
    return Axis(float(low), float(high), label, kind, is_log)


def choose_step(least: float) -> float:
    """Return a round number that is no smaller.

    >>> choose_step(0.13), choose_step(3.0)
    (0.2, 5.0)
    """
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * s for s in _STEPS if power * s >= least * (1 - 1e-9))


def shorten_number(value: float) -> str:
    """Return a number in few characters.

    >>> shorten_number(15_000.0), shorten_number(0.25), shorten_number(2.5e6)
    ('15k', '0.25', '2.5M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
    ticks = [f * 10.0**power for power in decades for f in factors]
    ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
    return ticks[:: max(1, len(ticks) // (_NUM_TICKS + 1))]
