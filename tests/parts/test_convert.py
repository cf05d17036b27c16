"""Values from code: exactly the annotated type, or refused in one line."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Optional

import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax.parts.bounds import at_least, check_value, show_value
from fedasync_jax.parts.convert import convert_value, converted
from fedasync_jax.parts.registry import checked


def fails(line):
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


@pytest.mark.parametrize(
    ("hint", "given", "plain"),
    [
        (int, np.int64(7), 7),
        (int, np.uint8(7), 7),
        (int, 1e2, 100),
        (int, jnp.int32(3), 3),
        (int, np.array(3), 3),
        (float, np.float32(0.1), 0.10000000149011612),
        (float, 2, 2.0),
        (float, Fraction(1, 4), 0.25),
        (float, jnp.float32(0.5), 0.5),
        (bool, np.True_, True),
        (str, np.str_("sgd"), "sgd"),
        (Path | None, "here", Path("here")),
        (Path | None, PurePosixPath("here"), Path("here")),
        (Path | None, None, None),
        (Optional[Annotated[int, at_least(1)]], np.int32(2), 2),  # noqa: UP045
        (tuple[int, ...], [np.int64(1), 2.0], (1, 2)),
        (tuple[float, float], np.array([1, 2]), (1.0, 2.0)),
        (Sequence[Annotated[int, at_least(1)]], jnp.array([3, 4]), (3, 4)),
        (tuple[int, ...], range(2), (0, 1)),
    ],
)
def test_a_value_becomes_the_plain_type(hint, given, plain):
    made = convert_value("x", hint, given)
    assert made == plain
    assert type(made) is type(plain)
    if isinstance(made, tuple):
        assert [type(entry) for entry in made] == [type(entry) for entry in plain]


@pytest.mark.parametrize(
    ("hint", "given", "line"),
    [
        (int, 100.5, "x must be a whole number, got 100.5"),
        (int, True, "x must be a whole number, got True"),
        (int, np.False_, "x must be a whole number, got False"),
        (int, "100", "x must be a whole number, got '100'"),
        (int, math.nan, "x must be a whole number, got nan"),
        (int, math.inf, "x must be a whole number, got inf"),
        (int, np.array([1]), "x must be a whole number, got [1]"),
        (float, "0.5", "x must be a number, got '0.5'"),
        (float, True, "x must be a number, got True"),
        (float, 1j, "x must be a number, got 1j"),
        (float, [0.3], "x must be a number, got [0.3]"),
        (float, (), "x must be a number, got []"),
        (float, Fraction(1, 3), "x must be a number, got 1/3"),
        (float, 2**53 + 1, f"x must be a number, got {2**53 + 1}"),
        (float, 2**1400, "x must be finite in float32, got about 2^1401"),
        (bool, 1, "x must be True or False, got 1"),
        (str, 1, "x must be a text, got 1"),
        (Path, 1, "x must be a path, got 1"),
        (Path, "a\0b", r"x must be a path, got 'a\x00b'"),
        (tuple[str, ...], "sgd", "x must be a list or a tuple, got 'sgd'"),
        (tuple[str, ...], {"sgd"}, "x must be a list or a tuple, got {'sgd'}"),
        (tuple[float, float], (1.0,), "x must be 2 values, got [1.0]"),
        (tuple[int, ...], [[1]], "x must be a whole number, got [1]"),
        (
            np.random.Generator,
            0,
            "x must be a generator such as np.random.default_rng(0), got 0",
        ),
    ],
)
def test_any_other_value_is_refused_by_name(hint, given, line):
    with fails(line):
        convert_value("x", hint, given)


def test_counts_and_numbers_fit_the_device():
    with fails("x must be <= 2147483647, got 2147483648"):
        check_value("x", Optional[Annotated[int, at_least(1)]], 2**31)  # noqa: UP045
    with fails("x must be finite in float32, got 1e+39"):
        check_value("x", float, 1e39)
    check_value("x", int, 2**31 - 1)
    check_value("x", float, 3.4e38)


@pytest.mark.parametrize(
    "value",
    [10**5000, [0.5] * 9999, "a" * 9999, np.zeros(9999), np.zeros((9, 9))],
    ids=["digits", "list", "text", "array", "rows"],
)
def test_a_shown_value_is_one_short_line(value):
    assert len(show_value(value)) <= 90
    assert "\n" not in show_value(value)


def test_a_part_gets_plain_values_and_errors_show_the_given_ones():
    @checked
    def part(size: Annotated[int, at_least(1)] = 1):
        return size

    made: Any = part
    assert type(made(np.int64(3))) is int
    assert type(made(size=3.0)) is int
    with fails("part: size must be finite and >= 1, got 0"):
        made(np.int64(0))
    with fails("part: size must be a whole number, got 1.5"):
        made(1.5)


def test_a_function_gets_a_generator_or_says_how_to_make_one():
    @converted
    def draw(size: int, *, rng: np.random.Generator):
        return rng.random(size)

    assert draw(2, rng=np.random.default_rng(0)).shape == (2,)
    with fails("rng must be a generator such as np.random.default_rng(0), got 0"):
        draw(2, rng=0)  # pyright: ignore[reportArgumentType]
