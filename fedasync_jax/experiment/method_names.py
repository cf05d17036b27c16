"""The names of the methods: they follow from the registries of rules and functions.

A method is chosen by its name, which nothing takes apart. A rule or a staleness
function that is entered in its registry is a method at once; ``methods`` makes them.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from fedasync_jax.mixing.rules import RULES, reads_staleness
from fedasync_jax.mixing.staleness import STALENESS_FNS

BASELINES = ("fedavg", "fedprox", "sgd")


class AsyncMethod(NamedTuple):
    """A mixing rule, and the staleness function that it is run with.

    Attributes:
      rule: one of ``RULES``.
      staleness: one of ``STALENESS_FNS``; None: the rule has none.
    """

    rule: str
    staleness: str | None


def list_async() -> dict[str, AsyncMethod]:
    """Return the asynchronous methods by name."""
    methods = {}
    for rule in RULES:
        functions = list(STALENESS_FNS) if reads_staleness(rule) else [None]
        for fn in functions:
            methods[f"{rule}-{fn}" if fn else rule] = AsyncMethod(rule, fn)
    return methods


def list_fedasync() -> dict[str, str]:
    """Return the staleness function of every FedAsync method, by its name."""
    return {
        name: staleness
        for name, (rule, staleness) in list_async().items()
        if rule == "fedasync" and staleness is not None
    }


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
