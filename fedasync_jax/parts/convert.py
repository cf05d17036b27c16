"""Values from code become the plain Python type of their annotation, or are refused.

NumPy's and JAX's numbers, lists and texts are what people have at hand. A conversion is
exact: 100.0 is the count 100, while 100.5, True and "100" are no counts.
"""

import functools
import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np

from fedasync_jax.parts.bounds import find_allowed, show_value

Factory = TypeVar("Factory", bound=Callable[..., Any])


def convert_value(name: str, hint: Any, value: Any) -> Any:
    """Return a value in the type of its annotation.

    >>> convert_value("hidden", tuple[int, ...], np.array([64, 32]))
    (64, 32)

    Args:
      name: of the setting or argument.
      hint: its annotation: int, float, bool, str, Path, NumPy's Generator, a tuple or
        a sequence of these, one of these or None. Of any other type, the value is
        returned as it is.
      value: the value. None is left to ``check_value``, unless a generator is needed.

    Raises:
      ValueError: in one line that names the value and what it must be.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is np.random.Generator:
        return _to_generator(name, value)
    if value is None:
        return None
    if origin is Annotated:
        return convert_value(name, inner[0], value)
    if origin in (typing.Union, types.UnionType):
        return _to_one_of(name, inner, value)
    if origin in (tuple, Sequence):
        return _to_tuple(name, inner, value)
    convert = _CONVERTERS.get(hint)
    return value if convert is None else convert(name, _to_plain(value))


def _to_plain(value: Any) -> Any:
    """Return a number of NumPy or JAX as one of Python; anything else as it is."""
    is_scalar = getattr(value, "shape", None) == () and hasattr(value, "item")
    # What Python cannot hold, such as a long double, stays itself.
    return value.item() if is_scalar else value


def _refuse(name: str, allowed: str, value: Any) -> typing.NoReturn:
    shown = show_value(value)
    if isinstance(value, list | tuple):  # so that [0.3] is told from 0.3
        shown = f"[{shown}]" if value else "[]"
    raise ValueError(f"{name} must be {allowed}, got {shown}")


def _to_int(name: str, value: Any) -> int:
    if isinstance(value, Real) and not isinstance(value, bool):
        number: Any = value
        try:
            whole = int(number)
        except (OverflowError, ValueError):  # infinity and NaN
            whole = None
        if whole is not None and whole == number:
            return whole
    _refuse(name, "a whole number", value)


def _to_float(name: str, value: Any) -> float:
    if isinstance(value, Real) and not isinstance(value, bool):
        given: Any = value
        try:
            number = float(given)
        except OverflowError:
            _refuse(name, "finite in float32", value)
        if number == given or math.isnan(number):
            return number
    _refuse(name, "a number", value)


def _to_bool(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    _refuse(name, "True or False", value)


def _to_str(name: str, value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    _refuse(name, "a text", value)


def _to_path(name: str, value: Any) -> Path:
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str) and path and "\0" not in path:
            return Path(path)
    _refuse(name, "a path", value)


_CONVERTERS: dict[Any, typing.Callable[[str, Any], Any]] = {
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    str: _to_str,
    Path: _to_path,
}


def _to_generator(name: str, value: Any) -> np.random.Generator:
    if isinstance(value, np.random.Generator):
        return value
    _refuse(name, "a generator such as np.random.default_rng(0)", value)


def _to_one_of(name: str, hints: Sequence[Any], value: Any) -> Any:
    *others, last = [hint for hint in hints if hint is not type(None)]
    for hint in others:
        try:
            return convert_value(name, hint, value)
        except ValueError:
            continue
    return convert_value(name, last, value)


def _to_tuple(name: str, hints: Sequence[Any], value: Any) -> tuple[Any, ...]:
    if getattr(value, "ndim", None) == 1 and hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple | range):
        _refuse(name, "a list or a tuple", value)
    many = len(hints) == 1 or hints[-1] is Ellipsis
    if not many and len(hints) != len(value):
        _refuse(name, f"{len(hints)} values", value)
    each = [hints[0]] * len(value) if many else hints
    pairs = zip(each, value, strict=True)
    return tuple(convert_value(name, hint, entry) for hint, entry in pairs)


@functools.cache
def find_settings(factory: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return annotation and default of the arguments that are settings."""
    hints = typing.get_type_hints(factory, include_extras=True)
    parameters = inspect.signature(factory).parameters
    return {
        name: (hints[name], parameter.default)
        for name, parameter in parameters.items()
        if name in hints and next(find_allowed(hints[name]), None) is not None
    }


def converted(function: Factory) -> Factory:
    """Return a function whose settings and generator are converted when it is called.

    It checks the bounds itself, where they depend on other arguments.

    Raises:
      ValueError: when called, in a line such as "rng must be a generator such as
        np.random.default_rng(0), got 0".
    """

    def read(name: str, hint: Any, value: Any) -> Any:
        plain = convert_value(name, hint, value)
        return value if isinstance(value, int) else plain  # errors show what was given

    return replace_arguments(function, read)


def replace_arguments(
    function: Factory, read: Callable[[str, Any, Any], Any]
) -> Factory:
    """Return the function of what ``read`` makes of its settings and generators."""
    hints = {name: hint for name, (hint, _) in find_settings(function).items()}
    for name, hint in typing.get_type_hints(function).items():
        if hint is np.random.Generator and name != "return":
            hints[name] = hint
    signature = inspect.signature(function)

    @functools.wraps(function)
    def reading(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        for name, hint in hints.items():
            if name in given.arguments:
                value = given.arguments[name]
                given.arguments[name] = read(name, hint, value)
        return function(*given.args, **given.kwargs)

    return typing.cast(Factory, reading)
