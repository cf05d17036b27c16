"""The names of the methods: they follow from the registries of rules and functions.

A method is a line such as ``fedasync:staleness=hinge,a=10,b=4,alpha=0.9``: a rule or a
baseline, and what of its settings is not the default. A rule or a staleness function
that is entered in its registry is a method at once; ``methods`` makes them.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from fedasync_jax.experiment.baselines import BASELINES
from fedasync_jax.experiment.own_rules import find_own_rule
from fedasync_jax.mixing.averaged import Decay
from fedasync_jax.mixing.rules import (
    RULES,
    list_settings,
    needs_staleness,
)
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.parts.bounds import check_value, one_of
from fedasync_jax.parts.nearest import name_nearest
from fedasync_jax.parts.registry import read_value


class AsyncMethod(NamedTuple):
    """A mixing rule, and the staleness function that it is run with.

    Attributes:
      rule: one of ``RULES``, or the import path of a rule of one's own.
      staleness: one of ``STALENESS_FNS``; None: the rule has none, or its own default.
    """

    rule: str
    staleness: str | None


class MethodLine(NamedTuple):
    """A line, taken apart.

    Attributes:
      name: what stands before the colon.
      method: what it runs; None: a baseline.
      given: settings behind the colon, by argument, as values.
    """

    name: str
    method: AsyncMethod | None
    given: Mapping[str, Any]


def list_async() -> dict[str, AsyncMethod]:
    """Return the asynchronous methods by name."""
    methods = {}
    for rule, factory in RULES.items():
        if needs_staleness(factory):
            for fn in STALENESS_FNS:
                methods[f"{rule}-{fn}"] = AsyncMethod(rule, fn)
        methods[rule] = _run_plainly(rule, factory)
    return methods


def _run_plainly(rule: str, factory: Callable[..., Any]) -> AsyncMethod:
    return AsyncMethod(rule, "constant" if needs_staleness(factory) else None)


def list_fedasync() -> dict[str, str]:
    """Return the staleness function of every FedAsync method, by its name."""
    return {
        name: staleness
        for name, (rule, staleness) in list_async().items()
        if rule == "fedasync" and staleness is not None and name != rule
    }


@functools.lru_cache(maxsize=256)
def parse_method(line: str) -> MethodLine:
    """Take a method's line apart.

    >>> parse_method("fedbuff:size=20").given
    {'size': 20}
    >>> parse_method("fedasync:staleness=hinge,b=8").method
    AsyncMethod(rule='fedasync', staleness='hinge')

    Raises:
      ValueError: in one line that names the rule and what it takes, if something is
        unknown or out of range.
    """
    name, colon, rest = line.partition(":")
    method = _find(name)
    texts = _split(name, rest) if colon else {}
    if (
        method is not None
        and "staleness" in texts
        and "staleness" in _list_hints(method)
    ):
        staleness = texts["staleness"]
        check_value(
            f"{name}: staleness", Annotated[str, one_of(STALENESS_FNS)], staleness
        )
        method = method._replace(staleness=staleness)
    if method is None:
        hints = {setting: place.hint for setting, place in BASELINES[name].items()}
    else:
        hints = _list_hints(method)
    given = {}
    for setting, text in texts.items():
        if setting not in hints:
            takes = ", ".join(hints) or "no settings"
            near = name_nearest(setting, hints)
            raise ValueError(f"methods: {name} takes {takes}, got {setting}{near}")
        given[setting] = read_value(f"{name}: {setting}", hints[setting], text)
    return MethodLine(name, method, given)


def check_methods(lines: Collection[str]) -> None:
    """Raise ValueError, in one line, if methods are unknown, or two are the same."""
    for line in lines:
        parse_method(line)
    same = {
        (m or n, tuple(sorted(g.items(), key=str))) for n, m, g in _parse_all(lines)
    }
    if not lines or len(same) < len(lines):
        shown = " ".join(lines) or "none"
        raise ValueError(f"methods must be one or more different names, got {shown}")


def list_of_baselines(lines: Collection[str], setting: str, default: Any) -> list[Any]:
    """Return a setting of every baseline that takes it, such as ``clients``."""
    return [
        given.get(setting, default)
        for name, _, given in _parse_all(lines)
        if setting in BASELINES.get(name, ())
    ]


def describe_methods() -> str:
    """Return the methods and what they take, for help."""
    rules = []
    for rule in RULES:
        hints = _list_hints(list_async()[rule])
        own = [name for name in hints if name != "average"]
        rules.append(f"{rule} ({', '.join(own)})")
    baselines = [f"{n} ({', '.join(takes)})" for n, takes in BASELINES.items()]
    return (
        f"Rules, and what they take, as in fedbuff:size=20,average=9: "
        f"{'; '.join(rules)}; all take average=P, to be judged by the average of their "
        f"models. Baselines: {'; '.join(baselines)}. A rule of your own: "
        f"my_module.my_rule:step=0.1."
    )


def _parse_all(lines: Collection[str]) -> Iterator[MethodLine]:
    return map(parse_method, lines)


def _find(name: str) -> AsyncMethod | None:
    if name in BASELINES:
        return None
    methods = list_async()
    if name in methods:
        return methods[name]
    if "." in name:
        return _run_plainly(name, find_own_rule(name))
    known = [*methods, *BASELINES]
    near = name_nearest(name, known)
    what = "rules or baselines" if near else f"one of {', '.join(known)}"
    raise ValueError(f"methods must be {what}, got {name!r}{near}")


def _split(name: str, rest: str) -> dict[str, str]:
    """Return the texts of NAME=VALUE,NAME=VALUE by name."""
    texts: dict[str, str] = {}
    for word in rest.split(","):
        setting, equals, text = word.partition("=")
        if not (setting and equals and text) or setting in texts:
            raise ValueError(
                f"methods: settings of {name} must be different NAME=VALUE, with "
                f"commas between, got {rest!r}"
            )
        texts[setting] = text
    return texts


def _list_hints(method: AsyncMethod) -> dict[str, Any]:
    """Return what a rule takes, by argument, with what is allowed."""
    hints = dict(list_settings(find_factory(method.rule)))
    if "staleness" in hints and method.staleness is not None:
        of_function = list_settings(STALENESS_FNS.find(method.staleness))
        hints = {**of_function, **hints}
    return {**hints, "average": Decay}


def name_settings(method: AsyncMethod) -> dict[str, str]:
    """Return the flat names of the settings that a method reads, by argument.

    An argument of the rule is none of the staleness function's, if both have the name.
    Those of a rule of one's own are no settings, but for ``alpha``.
    """
    factory, names = find_factory(method.rule), {}
    if method.staleness is not None:
        names |= STALENESS_FNS.arguments(method.staleness)
    if method.rule in RULES:
        names |= RULES.arguments(method.rule)
    else:
        own = inspect.signature(factory).parameters
        names = {k: name for k, name in names.items() if k not in own}
    if "alpha" in list_settings(factory):
        names["alpha"] = "alpha"
    return names


def find_factory(rule: str) -> Any:
    """Return the factory of a rule by its name or import path."""
    return RULES[rule] if rule in RULES else find_own_rule(rule)


class _Names(Collection[str]):
    """All names, as the registries are when it is asked."""

    def __iter__(self) -> Iterator[str]:
        yield from list_async()
        yield from BASELINES

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in list(iter(self))


METHODS = _Names()
