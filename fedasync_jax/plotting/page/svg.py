"""Charts as SVG: a frame with its axes, lines with the values of their points, bars."""

import html
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fedasync_jax.plotting.page.scales import Axis
from fedasync_jax.plotting.styles import LineStyle

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 480, 58, 12, 10, 44
_HEIGHT = 290
_DASHES = {"-": "", "--": "7 4", ":": "2 3", "-.": "8 3 2 3"}
_NUM_DOTS = 100  # points of a line whose values can be read, at most twice as many
_NUM_POINTS = 400  # of a line


class Line(NamedTuple):
    """One line of a chart.

    Attributes:
      name: of the method, or whatever it shows.
      x: [P].
      y: [P]; NaN where there is none.
      style: its looks.
      texts: what is told of each point, [P]; default: both values.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    style: LineStyle
    texts: Sequence[str] | None = None


class Bars(NamedTuple):
    """Bars that look alike.

    Attributes:
      name: what they show.
      look: class of the style sheet.
      boxes: left, right, bottom and top of each, [N, 4], as the axes have it.
      texts: what is told of each, [N].
    """

    name: str
    look: str
    boxes: np.ndarray
    texts: Sequence[str]


class Chart(NamedTuple):
    """A chart.

    Attributes:
      title: what it shows.
      x: axis from left to right.
      y: axis from bottom to top.
      lines: in front.
      bars: behind.
      marks: values of x with a line from bottom to top.
      rows: names of whole numbers of y, in the place of its values.
      note: a line below it.
    """

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    bars: Sequence[Bars] = ()
    marks: Sequence[float] = ()
    rows: Sequence[str] | None = None
    note: str = ""


def draw_chart(chart: Chart) -> str:
    """Return a chart as a figure of HTML; what it is made of may hold any text."""
    height = _HEIGHT if chart.rows is None else 54 + 11 * max(len(chart.rows), 6)
    frame = _Frame(chart.x, chart.y, height)
    drawn = "".join(
        itertools.chain(
            frame.draw_axes(chart.rows),
            (_draw_bars(frame, bars) for bars in chart.bars),
            (frame.draw_mark(value) for value in chart.marks),
            (_draw_line(frame, line) for line in chart.lines),
        )
    )
    names = ", ".join(dict.fromkeys(line.name for line in chart.lines))
    about = f"{chart.title}. {chart.y.label} against {chart.x.label}"
    about += f": {names}" if names else ""
    note = f"<p class='note'>{safe(chart.note)}</p>" if chart.note else ""
    return (
        f"<figure class='chart'><figcaption>{safe(chart.title)}</figcaption>"
        f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' "
        f"aria-label='{safe(about)}'>{drawn}</svg>{note}</figure>\n"
    )


def draw_swatch(style: LineStyle) -> str:
    """Return a short piece of a line, for a legend."""
    return (
        "<svg class='swatch' viewBox='0 0 28 8' aria-hidden='true'>"
        f"<path class='line {name_color(style)}' d='M1 4H27'"
        f"{_dash(style)}/></svg>"
    )


def draw_bar_swatch(look: str) -> str:
    """Return a small bar, for a legend."""
    return (
        "<svg class='swatch' viewBox='0 0 28 8' aria-hidden='true'>"
        f"<g class='bar {look}'><path d='M1 0H27V8H1z'/></g></svg>"
    )


def name_color(style: LineStyle) -> str:
    """Return the class of the style sheet that has a line's colour."""
    return f"c{style.color.lstrip('#')}"


def safe(text: object) -> str:
    """Return a text so that HTML shows it, whatever it holds."""
    return html.escape(str(text), quote=True)


class _Frame:
    """Where values lie on the picture."""

    def __init__(self, x: Axis, y: Axis, height: int):
        self.x, self.y = x, y
        self._bottom = height - _BOTTOM

    def across(self, values: np.ndarray) -> np.ndarray:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * self.x.place(values)

    def up(self, values: np.ndarray) -> np.ndarray:
        return self._bottom - (self._bottom - _TOP) * self.y.place(values)

    def draw_axes(self, rows: Sequence[str] | None) -> Iterator[str]:
        """Yield grid, numbers and labels."""
        right, bottom = _WIDTH - _RIGHT, self._bottom
        ticks = self.y.ticks() if rows is None else list(range(len(rows)))
        for tick, place in zip(ticks, self.up(np.array(ticks)).tolist(), strict=True):
            name = self.y.format_tick(tick) if rows is None else rows[int(tick)]
            if rows is None:
                yield f"<path class='grid' d='M{_LEFT} {place:.1f}H{right}'/>"
            small = " small" if rows is not None else ""
            yield (
                f"<text class='y{small}' x='{_LEFT - 6}' y='{place + 3:.1f}'>"
                f"{safe(name)}</text>"
            )
        ticks = self.x.ticks()
        places = self.across(np.array(ticks)).tolist()
        for tick, place in zip(ticks, places, strict=True):
            yield f"<path class='grid' d='M{place:.1f} {_TOP}V{bottom}'/>"
            name = safe(self.x.format_tick(tick))
            yield f"<text class='x' x='{place:.1f}' y='{bottom + 15}'>{name}</text>"
        yield f"<path class='axis' d='M{_LEFT} {_TOP}V{bottom}H{right}'/>"
        middle = (_LEFT + right) / 2
        label = safe(self.x.label)
        yield f"<text class='x' x='{middle}' y='{bottom + 34}'>{label}</text>"
        turned = f"transform='translate(13 {(bottom + _TOP) / 2:.0f}) rotate(-90)'"
        yield f"<text class='x' {turned}>{safe(self.y.label)}</text>"

    def draw_mark(self, value: float) -> str:
        x = self.across(np.array([value]))[0]
        return f"<path class='mark' d='M{x:.1f} {_TOP}V{self._bottom}'/>"

    def holds(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return which points lie within, bool [P]."""
        inside = np.isfinite(x) & np.isfinite(y)
        inside &= (x >= _LEFT - 0.5) & (x <= _WIDTH - _RIGHT + 0.5)
        return inside & (y >= _TOP - 0.5) & (y <= self._bottom + 0.5)

    def clip(self, y: np.ndarray) -> np.ndarray:
        """Return heights, those far outside no farther than lines can tell."""
        return np.clip(y, _TOP - 3e3, self._bottom + 3e3)


def _draw_line(frame: _Frame, line: Line) -> str:
    x, y = frame.across(line.x), frame.up(line.y)
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not known.size:
        return ""
    shown = _thin(known, _NUM_POINTS)
    path = _make_path(frame, x[shown], y[shown])
    color = name_color(line.style)
    dots = []
    for i in _thin(known, _NUM_DOTS).tolist():
        if not frame.holds(x[i : i + 1], y[i : i + 1])[0]:
            continue
        text = line.texts[i] if line.texts else _tell(frame, line, i)
        dots.append(
            f"<circle cx='{x[i]:.1f}' cy='{y[i]:.1f}' r='4'>"
            f"<title>{safe(text)}</title></circle>"
        )
    return (
        f"<g class='{color}'><path class='line' d='{path}'{_dash(line.style)}/>"
        f"{''.join(dots)}</g>"
    )


def _make_path(frame: _Frame, x: np.ndarray, y: np.ndarray) -> str:
    """Return a line through points, cut where it leaves the frame."""
    parts, pen_is_down = [], False
    inside = frame.holds(x, y)
    for i in range(len(x)):
        if not inside[i] and i and inside[i - 1]:
            parts.append("L" + _cross(frame, x, y, i - 1, i))
        if inside[i]:
            if not pen_is_down and i:
                parts.append("M" + _cross(frame, x, y, i, i - 1))
                pen_is_down = True
            parts.append(f"{'L' if pen_is_down else 'M'}{x[i]:.1f} {y[i]:.1f}")
        pen_is_down = bool(inside[i])
    return "".join(parts)


def _cross(frame: _Frame, x: np.ndarray, y: np.ndarray, one: int, other: int) -> str:
    """Return where a line from a point inside to one outside meets the frame."""
    low, high = 0.0, 1.0
    ends = np.array([x[one], x[other]]), frame.clip(np.array([y[one], y[other]]))
    for _ in range(24):  # halving
        middle = (low + high) / 2
        at = [np.array([(1 - middle) * e[0] + middle * e[1]]) for e in ends]
        low, high = (middle, high) if frame.holds(*at)[0] else (low, middle)
    return " ".join(f"{(1 - low) * e[0] + low * e[1]:.1f}" for e in ends)


def _draw_bars(frame: _Frame, bars: Bars) -> str:
    left, right = (frame.across(bars.boxes[:, i]) for i in (0, 1))
    low, high = (frame.up(bars.boxes[:, i]) for i in (2, 3))
    drawn = []
    for i, text in enumerate(bars.texts):
        width, tall = max(right[i] - left[i], 0.4), low[i] - high[i]
        drawn.append(
            f"<path d='M{left[i]:.1f} {high[i]:.1f}h{width:.1f}v{tall:.1f}"
            f"h-{width:.1f}z'><title>{safe(text)}</title></path>"
        )
    return f"<g class='bar {bars.look}'>{''.join(drawn)}</g>"


def _tell(frame: _Frame, line: Line, i: int) -> str:
    x, y = frame.x.format_value(line.x[i]), frame.y.format_value(line.y[i])
    return f"{line.name}\n{frame.x.label}: {x}\n{frame.y.label}: {y}"


def _thin(indices: np.ndarray, most: int) -> np.ndarray:
    """Return every n-th index, and the last one."""
    step = max(1, -(-len(indices) // most))
    kept = indices[::step]
    return kept if kept[-1] == indices[-1] else np.append(kept, indices[-1])


def _dash(style: LineStyle) -> str:
    dash = _DASHES.get(style.linestyle, "")
    return f" stroke-dasharray='{dash}'" if dash else ""
