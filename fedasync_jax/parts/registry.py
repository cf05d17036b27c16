"""Parts that are chosen by name, and the settings that they declare.

A part is a factory, such as ``hinge(a, b)``. Those of its arguments whose annotation
says what is allowed are its settings; name and default come from the signature::

    def hinge(a: Annotated[float, above(0)] = 10.0, ...) -> StalenessFn: ...

A registry holds the parts of one kind. Command line, help, checks and contract tests
read it, so that a new part is one function and one entry.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from fedasync_jax.parts.bounds import check_value, show_value
from fedasync_jax.parts.convert import (
    Factory,
    convert_value,
    find_settings,
    replace_arguments,
)

Made = TypeVar("Made")


class Setting(NamedTuple):
    """A setting that a part declares.

    Attributes:
      hint: its annotation.
      default: its default.
      parts: names of the parts that read it.
      argument: what it is called in their signatures.
      factory: one of them, whose docstring explains the argument.
    """

    hint: Any
    default: Any
    parts: tuple[str, ...]
    argument: str
    factory: Callable[..., Any]


class Registry(dict[str, Callable[..., Made]]):
    """The parts of one kind: factories by name, in the order of their entries.

    Attributes:
      kind: what they are, for errors.
      families: factories of names that begin alike, see ``register_family``.
    """

    def __init__(self, kind: str, *, prefix: str = ""):
        """Begin empty.

        Args:
          kind: such as "partition".
          prefix: of the names of settings; ``{name}`` in it stands for the part's.
        """
        super().__init__()
        self.kind = kind
        self._prefix = prefix
        self._renamed: dict[str, Mapping[str, str]] = {}
        self.families: dict[str, Callable[..., Made]] = {}

    def register_family(self, beginning: str, factory: Callable[..., Made]) -> None:
        """Enter parts without number: of every name that begins so.

        They have no settings, and are not among the names that are listed.

        Args:
          beginning: of their names, such as "tfds:".
          factory: makes one; its first argument is the rest of the name.
        """
        self.families[beginning] = factory

    def register(self, name: str, factory: Factory, **settings: str) -> Factory:
        """Enter a part.

        Args:
          name: as it is chosen.
          factory: makes it. An argument whose annotation says what is allowed is a
            setting; any other is passed by the caller of ``make``, if it is named.
          **settings: names of settings, by argument, where they are not prefix and
            argument.

        Raises:
          ValueError: if the name is taken, a setting has no default, or it is that of
            another part with another default or bound.

        Returns:
          The factory.
        """
        if name in self:
            raise ValueError(f"{self.kind} must have a new name, got {name!r} again")
        for argument, (_, default) in find_settings(factory).items():
            if default is inspect.Parameter.empty:
                raise ValueError(
                    f"{self.kind} {name} must have a default for its setting "
                    f"{argument}, got none"
                )
        self[name], self._renamed[name] = factory, settings
        try:
            self.settings()
        except ValueError:
            del self[name], self._renamed[name]
            raise
        return factory

    def settings(
        self, prefix: str | None = None, **defaults: Any
    ) -> dict[str, Setting]:
        """Return the settings that the parts declare, by name.

        Args:
          prefix: default: that of the registry.
          **defaults: by argument, where they are not those of the signature.

        Raises:
          ValueError: if parts that share a setting differ in its default or bound.
        """
        found: dict[str, Setting] = {}
        for part, factory in self.items():
            for setting, argument in self._names(part, prefix).items():
                hint, default = find_settings(factory)[argument]
                default = defaults.get(argument, default)
                before = found.get(setting)
                if before and (before.hint, before.default) != (hint, default):
                    raise ValueError(
                        f"{self.kind} {part} must have the default and the bounds of "
                        f"{before.parts[0]} for {setting}, or another name, got "
                        f"{show_value(default)}"
                    )
                parts = (*before.parts, part) if before else (part,)
                found[setting] = Setting(hint, default, parts, argument, factory)
        return found

    def make(
        self,
        name: str,
        values: Mapping[str, Any],
        *,
        prefix: str | None = None,
        **offered: Any,
    ) -> Made:
        """Make a part.

        Args:
          name: the chosen one.
          values: settings by name; those of other parts are not read.
          prefix: as of ``settings``.
          **offered: what else it may need, by argument; it gets what it names.

        Raises:
          ValueError: if there is no such part, or it refuses a value.
        """
        factory = self.find(name)
        arguments = {
            argument: values[setting]
            for setting, argument in self._names(name, prefix).items()
            if setting in values
        }
        named = inspect.signature(factory).parameters
        return factory(**{k: v for k, v in offered.items() if k in named}, **arguments)

    def find(self, name: str) -> Callable[..., Made]:
        """Return a factory.

        Raises:
          ValueError: if there is no such part.
        """
        if name in self:
            return self[name]
        for beginning, factory in self.families.items():
            if name.startswith(beginning):
                return functools.partial(factory, name.removeprefix(beginning))
        allowed = ", ".join([*self, *(f"{family}NAME" for family in self.families)])
        raise ValueError(f"{self.kind} must be one of {allowed}, got {name!r}")

    def arguments(self, part: str) -> dict[str, str]:
        """Return the names of the settings of a part, by argument."""
        return {argument: name for name, argument in self._names(part, None).items()}

    def _names(self, part: str, prefix: str | None) -> dict[str, str]:
        """Return the arguments of a part that are settings, by name of the setting."""
        if part not in self:  # of a family
            return {}
        prefix = self._prefix if prefix is None else prefix
        start = prefix.format(name=part.replace("-", "_"))
        renamed = self._renamed[part]
        return {
            renamed.get(argument, f"{start}{argument}"): argument
            for argument in find_settings(self[part])
        }


def checked(factory: Factory) -> Factory:
    """Return a factory that converts and checks its settings when it is called.

    Raises:
      ValueError: when called, in a line such as "hinge: a must be finite and > 0, got
        0".
    """

    def read(name: str, hint: Any, value: Any) -> Any:
        name = f"{getattr(factory, '__name__', 'part')}: {name}"
        plain = convert_value(name, hint, value)
        check_value(name, hint, value)  # so that an error shows what was given
        return plain

    return replace_arguments(factory, read)


def can_be_read(hint: Any) -> bool:
    """Return whether a value of an annotation can be read from a word."""
    return _find_reader(hint) is not None


def read_value(name: str, hint: Any, text: str) -> Any:
    """Return a value that was written as a word.

    >>> read_value("size", int | None, "20")
    20

    Args:
      name: of the setting, as errors call it.
      hint: its annotation.
      text: the word; "none" where there may be None.

    Raises:
      ValueError: if it is no such value, or not allowed.
    """
    if text.lower() == "none" and type(None) in typing.get_args(hint):
        return None
    reader = _find_reader(hint)
    assert reader is not None  # see ``can_be_read``
    try:
        value = _read_bool(text) if reader is bool else reader(text)
    except ValueError as error:
        raise ValueError(f"{name} must be {_KINDS[reader]}, got {text!r}") from error
    check_value(name, hint, value)
    return value


_KINDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a word",
}


def _find_reader(hint: Any) -> Any:
    if hint in _KINDS:
        return hint
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Annotated:
        inner = inner[:1]
    elif typing.get_origin(hint) not in (typing.Union, types.UnionType):
        inner = ()
    return next((r for r in map(_find_reader, inner) if r is not None), None)


def _read_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def merge_settings(*many: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return all settings; one that several have is that of all their parts."""
    merged: dict[str, Setting] = {}
    for settings in many:
        for name, setting in settings.items():
            before = merged.get(name)
            parts = (*before.parts, *setting.parts) if before else setting.parts
            merged[name] = setting._replace(parts=tuple(dict.fromkeys(parts)))
    return merged
