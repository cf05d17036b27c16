"""Which settings a run reads: all, but for those of parts that it has not chosen."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fedasync_jax.data.partition.registry import PARTITIONS
from fedasync_jax.data.registry import DATASETS, TEXTS
from fedasync_jax.experiment.baselines import BASELINES
from fedasync_jax.experiment.method_names import (
    find_factory,
    name_settings,
    parse_method,
)
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.fleet.habits import AVAILABILITIES
from fedasync_jax.fleet.laws import DELAY_LAWS
from fedasync_jax.mixing.rules import RULES, list_settings
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.models.registry import CLASSIFIERS, LANGUAGE_MODELS
from fedasync_jax.parts.bounds import join_or
from fedasync_jax.parts.registry import Setting, merge_settings
from fedasync_jax.schedule.schedulers import SCHEDULES

_OF_ALPHA = ("alpha", "alpha_drop_at", "alpha_drop")
_OF_ALL = ("rho",)  # of fedprox, and of every rule as well


class Owner(NamedTuple):
    """What must be chosen so that a setting is read.

    Attributes:
      chooser: the setting that chooses, such as ``schedule``, or ``staleness`` of a
        method.
      parts: the names in it that read the setting.
    """

    chooser: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        """Return it in words.

        >>> str(Owner("model", ("cnn", "paper-cnn", "lstm")))
        'model cnn, paper-cnn or lstm'
        """
        return f"{self.chooser} {join_or(self.parts)}"


def list_owners(name: str) -> list[Owner]:
    """Return what reads a setting, by its flat name; nothing: every run does."""
    owners = [
        Owner(chooser, declared[name].parts)
        for chooser, declared in _list_declared()
        if name in declared
    ]
    methods = [
        *(baseline for baseline in BASELINES if name in _places_of(baseline).values()),
        *(rule for rule in RULES if name in _OF_ALPHA and _takes_alpha(rule)),
    ]
    return [*owners, Owner("methods", tuple(methods))] if methods else owners


def find_unused(names: Iterable[str], points: Iterable[Settings]) -> list[str]:
    """Return those of the settings that no point reads.

    Args:
      names: flat names of settings.
      points: settings of runs.
    """
    unused = {name: owners for name in names if (owners := list_owners(name))}
    for settings in points:
        if not unused:
            break
        unused = {
            name: owners
            for name, owners in unused.items()
            if not any(_is_read(name, owner, settings) for owner in owners)
        }
    return list(unused)


def describe_unused(names: Iterable[str]) -> str:
    """Return settings that are not read, and who would read them, in words."""
    return ", ".join(
        f"{name} (only for {' or '.join(map(str, list_owners(name)))})"
        for name in names
    )


def _is_read(name: str, owner: Owner, settings: Settings) -> bool:
    if owner.chooser in ("methods", "staleness"):  # which methods choose
        return name in _list_read(settings.run.methods)
    return settings[owner.chooser] in owner.parts


def _list_declared() -> Iterator[tuple[str, Mapping[str, Setting]]]:
    """Yield the settings that choose parts, and what these declare."""
    yield "methods", RULES.settings()
    yield "staleness", STALENESS_FNS.settings()
    yield "dataset", merge_settings(DATASETS.settings(), TEXTS.settings())
    yield "partition", PARTITIONS.settings()
    yield "model", merge_settings(CLASSIFIERS.settings(), LANGUAGE_MODELS.settings())
    yield "schedule", SCHEDULES.settings()
    yield "availability", AVAILABILITIES.settings()
    for what in ("client", "task", "network"):
        yield f"{what}_law", DELAY_LAWS.settings(f"{what}_")


@functools.lru_cache(maxsize=256)
def _list_read(lines: tuple[str, ...]) -> frozenset[str]:
    """Return the settings that only some methods read, and that these do."""
    return frozenset().union(*map(_list_read_by, lines))


def _list_read_by(line: str) -> set[str]:
    """Return them of one method; what its line sets is not read."""
    name, method, given = parse_method(line)
    if method is None:
        return {s for argument, s in _places_of(name).items() if argument not in given}
    # What a rule of one's own calls like an argument of its function is read besides.
    of_fn = STALENESS_FNS.arguments(method.staleness) if method.staleness else {}
    names = name_settings(method)
    read = {*of_fn.values(), *names.values(), *(_OF_ALPHA if "alpha" in names else ())}
    return read - {names[argument] for argument in given if argument in names}


def _takes_alpha(rule: str) -> bool:
    return "alpha" in list_settings(find_factory(rule))


def _places_of(baseline: str) -> dict[str, str]:
    """Return the settings that only baselines read, by what their lines call them."""
    return {
        argument: place.name
        for argument, place in BASELINES[baseline].items()
        if place.name not in _OF_ALL
    }
