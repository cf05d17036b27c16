"""What a setting may be: it stands in its annotation, ``Annotated[int, at_least(1)]``.

The same annotation serves a field of a record of settings and an argument of a part.
"""

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Annotated, Any, Protocol

INT32_MAX = 2**31 - 1  # the most that a count may be: the device counts in int32
_FLOAT32_MAX = (2 - 2**-23) * 2.0**127
_LONGEST_SHOWN = 80  # characters of a value in an error


@typing.runtime_checkable
class Allowed(Protocol):
    """What a value may be; ``str`` says it in words."""

    def holds(self, value: Any, /) -> bool:
        """Return whether ``value`` is allowed."""
        ...


@dataclasses.dataclass(frozen=True)
class Bounds:
    """An interval of numbers.

    Attributes:
      low: lowest value.
      high: highest value; infinity itself is never allowed.
      open_low: whether ``low`` itself is not allowed.
      open_high: whether ``high`` itself is not allowed.
      note: what to say behind the interval.
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    note: str = ""

    def holds(self, value: float, /) -> bool:
        """Return whether ``value`` lies inside; never for NaN."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and abs(value) < math.inf

    def __str__(self) -> str:
        """Return what is allowed, in words."""
        if self.high == math.inf:
            return f"finite and {'>' if self.open_low else '>='} {self.low}{self.note}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"in {left}{self.low}, {self.high}{right}{self.note}"


def at_least(low: float) -> Bounds:
    """Return the bounds [low, infinity)."""
    return Bounds(low)


def above(low: float) -> Bounds:
    """Return the bounds (low, infinity)."""
    return Bounds(low, open_low=True)


@dataclasses.dataclass(frozen=True, eq=False)
class OneOf:
    """A name out of collections, such as registries, that may still grow.

    Attributes:
      collections: of the names.
      families: beginnings of further names, such as "tfds:", that are not listed.
    """

    collections: tuple[Collection[str], ...]
    families: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in their order."""
        return tuple(itertools.chain(*self.collections))

    def holds(self, value: str, /) -> bool:
        """Return whether ``value`` is one of the names."""
        return value in self.names or value.startswith(self.families)

    def __str__(self) -> str:
        """Return what is allowed, in words."""
        families = [f"{beginning}NAME" for beginning in self.families]
        return f"one of {', '.join([*self.names, *families])}"


def one_of(*collections: Collection[str], families: tuple[str, ...] = ()) -> OneOf:
    """Return the names of all collections, and of families of names."""
    return OneOf(collections, families)


@dataclasses.dataclass(frozen=True)
class Free:
    """Anything of the type: marks an argument as a setting, without a bound."""

    def holds(self, value: Any, /) -> bool:
        """Return True."""
        del value
        return True


@dataclasses.dataclass(frozen=True, eq=False)
class Explained(Free):
    """Anything of the type, with more words for help than a docstring has.

    Attributes:
      explain: returns them, as the registries are when it is asked.
    """

    explain: Callable[[], str]


@dataclasses.dataclass(frozen=True)
class PositiveRange:
    """Two positive numbers, the lower one first."""

    def holds(self, value: Any, /) -> bool:
        """Return whether they are."""
        return len(value) == 2 and 0 < value[0] <= value[1] < math.inf

    def __str__(self) -> str:
        """Return what is allowed, in words."""
        return "0 < low <= high < inf"


@dataclasses.dataclass(frozen=True)
class Shares:
    """Parts of a whole."""

    def holds(self, value: Any, /) -> bool:
        """Return whether all are positive and they are no more than the whole."""
        return all(share > 0 for share in value) and sum(value) <= 1 + 1e-9

    def __str__(self) -> str:
        """Return what is allowed, in words."""
        return "> 0 and sum to 1 at most"


FRACTION = Bounds(0, 1, open_high=True)


def check_value(name: str, hint: Any, value: Any) -> None:
    """Raise ValueError unless a value is what its annotation allows.

    A count without an upper bound of its own is at most 2^31 - 1, and every number is
    finite in float32.

    Args:
      name: of the setting.
      hint: its annotation; ``Annotated`` may stand anywhere in it. None is allowed
        where the annotation has it.
      value: the value.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [] if value is None and type(None) in inner else inner
        for one in kinds:
            check_value(name, one, value)
    elif origin is Annotated:
        for allowed in inner[1:]:
            is_wrong = value is None or not allowed.holds(value)
            if isinstance(allowed, Allowed) and is_wrong:
                raise ValueError(f"{name} must be {allowed}, got {show_value(value)}")
        if inner[0] is not int or not any(map(_has_end, inner[1:])):
            check_value(name, inner[0], value)
    elif origin in (tuple, Sequence):
        _check_entries(name, inner, value)
    elif hint is int and value is not None and value > INT32_MAX:
        raise ValueError(f"{name} must be <= {INT32_MAX}, got {show_value(value)}")
    elif hint is float and value is not None and not abs(value) <= _FLOAT32_MAX:
        raise ValueError(f"{name} must be finite in float32, got {show_value(value)}")


def _has_end(allowed: Any) -> bool:
    return isinstance(allowed, Bounds) and allowed.high < math.inf


def _check_entries(name: str, hints: Sequence[Any], values: Sequence[Any]) -> None:
    if len(hints) == 1 or hints[-1] is Ellipsis:
        hints = [hints[0]] * len(values)
    for hint, value in zip(hints, values, strict=True):
        check_value(name, hint, value)


def show_value(value: Any) -> str:
    """Return a value as errors show it: in one short line."""
    if isinstance(value, tuple | list):
        shown = [_show_one(entry) for entry in value[:_LONGEST_SHOWN]]
        text = " ".join(shown) or "none"
    else:
        text = repr(value) if isinstance(value, str) else _show_one(value)
    return shorten(text, _LONGEST_SHOWN)


def shorten(text: str, most: int = 160) -> str:
    """Return what an error shows of a text: one line, its beginning if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."


def _show_one(value: Any) -> str:
    if isinstance(value, int) and abs(value).bit_length() > 256:
        return f"about {'-' if value < 0 else ''}2^{abs(value).bit_length()}"
    return str(value)


def find_allowed(hint: Any) -> Iterator[Allowed]:
    """Yield what an annotation allows, wherever it stands in it."""
    if typing.get_origin(hint) is Annotated:
        yield from (note for note in hint.__metadata__ if isinstance(note, Allowed))
    for inner in typing.get_args(hint):
        yield from find_allowed(inner)


def join_or(names: Iterable[str]) -> str:
    """Return names in words.

    >>> join_or(("cnn", "paper-cnn", "lstm"))
    'cnn, paper-cnn or lstm'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
