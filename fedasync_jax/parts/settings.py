"""Records of settings: one for each part of an experiment, beside that part."""

import dataclasses
import functools
import typing
from typing import Any, Self

from fedasync_jax.parts.bounds import Allowed, check_value
from fedasync_jax.parts.convert import convert_value
from fedasync_jax.parts.registry import Setting


class Values(dict[str, Any]):
    """Settings by name; it is never changed, so that it has a hash."""

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return a hash of the content."""
        return hash(frozenset(self.items()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartSettings:
    """The settings of one part, checked when they are made.

    Attributes:
      of_choices: settings that the registered parts declare, by name; those that are
        not given have their defaults.

    Raises:
      ValueError: in one line that names the setting, the value and what is allowed.
    """

    of_choices: Values = dataclasses.field(default_factory=Values)

    def __post_init__(self) -> None:
        """Add the defaults, convert all to their annotated types, check all."""
        declared = self.choices()
        unknown = sorted(self.of_choices.keys() - declared.keys())
        if unknown:
            raise ValueError(f"settings must be known, got {unknown[0]}")
        defaults = {name: setting.default for name, setting in declared.items()}
        hints = self.hints()
        of_choices = {**defaults, **self.of_choices}
        for name in of_choices:
            of_choices[name] = convert_value(name, hints[name], of_choices[name])
        object.__setattr__(self, "of_choices", Values(of_choices))
        for name in _field_hints(type(self)):
            value = convert_value(name, hints[name], getattr(self, name))
            object.__setattr__(self, name, value)
        values = self.flat()
        for name, hint in hints.items():
            check_value(name, hint, values[name])

    @classmethod
    def choices(cls) -> dict[str, Setting]:
        """Return the settings that registered parts declare, by name."""
        return {}

    @classmethod
    def hints(cls) -> dict[str, Any]:
        """Return the annotations of all settings, by name.

        Raises:
          ValueError: if a registered part has a setting of the name of a field.
        """
        fields, choices = _field_hints(cls), cls.choices()
        for name in fields.keys() & choices.keys():
            raise ValueError(
                f"{name} must be the setting of one part, got it in "
                f"{choices[name].parts[0]} as well"
            )
        return {**fields, **{name: choice.hint for name, choice in choices.items()}}

    def flat(self) -> dict[str, Any]:
        """Return all settings by name."""
        fields = {name: getattr(self, name) for name in _field_hints(type(self))}
        return {**fields, **self.of_choices}

    def replace(self, **settings: Any) -> Self:
        """Return these settings, some of them replaced.

        Raises:
          ValueError: if one is unknown or out of range.
        """
        own = {k: settings.pop(k) for k in _field_hints(type(self)) if k in settings}
        of_choices = Values({**self.of_choices, **settings})
        return dataclasses.replace(self, **own, of_choices=of_choices)


@functools.cache
def _field_hints(record: type[PartSettings]) -> dict[str, Any]:
    """Return the annotations of the fields of a record, but for ``of_choices``."""
    hints = typing.get_type_hints(record, include_extras=True)
    names = [field.name for field in dataclasses.fields(record)]
    return {name: hints[name] for name in names if name != "of_choices"}


def kinds_of(hint: Any) -> set[Any]:
    """Return the types in an annotation."""
    inner = [arg for arg in typing.get_args(hint) if not isinstance(arg, Allowed)]
    return {hint}.union(*map(kinds_of, inner)) if inner else {hint}
