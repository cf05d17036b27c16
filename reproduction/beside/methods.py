"""Who is compared, and the settings that each may try.

Settings that the papers leave open are chosen on validation samples, of a grid that is
equally long for every method, by seeds of their own.

Reference: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020
(arXiv 1812.06127): mu = 1 for Synthetic(1, 1); Xie, Koyejo, Gupta, arXiv 1903.03934.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fedasync_jax.experiment.method_names import parse_method

TUNING_SEEDS = (100, 101)
"""Seeds that settings are chosen by; none of them is reported."""
SEEDS = (0, 1, 2, 3, 4)
"""Seeds that are reported."""
DEADLINE = 2000
"""Simulated seconds after which a round may end without its stragglers."""
ROUND = 10
"""Clients of a round, and tasks in flight without rounds."""
MU = 1
"""Weight of FedProx's proximal term, of the FedProx paper."""


class Try(NamedTuple):
    """Settings that a method may be run with.

    Attributes:
      line: as in the settings ``methods``.
      rho: weight of the proximal term of an asynchronous method.
    """

    line: str
    rho: float = 0.01

    @property
    def slug(self) -> str:
        """The name of its folder."""
        text = f"{self.line}-rho-{self.rho:g}"
        return "".join(c if c.isalnum() or c in ".-" else "-" for c in text)

    def show(self, *, is_async: bool) -> str:
        """Return what is to be typed for it, as Markdown.

        Args:
          is_async: whether ``rho`` is read; a baseline has its own in the line.
        """
        text = f"`{self.line}`"
        return f"{text}, `--rho {self.rho:g}`" if is_async else text


class Contestant(NamedTuple):
    """A method that is compared.

    Attributes:
      tries: its grid.
      is_async: whether arrivals are mixed one by one.
    """

    tries: Sequence[Try]
    is_async: bool = True


def _in_rounds(name: str, *settings: str) -> Contestant:
    """Return a method in rounds: two weightings, with and without a deadline."""
    weightings = ("weights=samples", "weights=equal")
    endings = ((), (f"deadline={DEADLINE}",))
    lines = [
        f"{name}:{','.join((weights, *ending, *settings))}"
        for ending in endings
        for weights in weightings
    ]
    return Contestant([Try(line) for line in lines], is_async=False)


def _constant(alpha: float) -> str:
    return f"fedasync:staleness=constant,alpha={alpha:g}"


def _hinge(alpha: float, b: int) -> str:
    return f"fedasync:staleness=hinge,a=10,b={b},alpha={alpha:g}"


CONTESTANTS: Mapping[str, Contestant] = {
    "FedAsync constant": Contestant(
        [
            Try(_constant(0.6)),
            Try(_constant(0.3)),
            Try(_constant(0.9)),
            Try(_constant(0.6), rho=1.0),
        ]
    ),
    "FedAsync hinge": Contestant(
        [
            Try(_hinge(0.6, 4)),
            Try(_hinge(0.6, 12)),
            Try(_hinge(0.9, 12)),
            Try(_hinge(0.6, 12), rho=1.0),
        ]
    ),
    "delta": Contestant(
        [
            Try("delta:step=0.1"),
            Try("delta:step=0.2"),
            Try("delta:step=0.4"),
            Try("delta:step=0.2", rho=1.0),
        ]
    ),
    "FedAvg": _in_rounds("fedavg"),
    "FedProx": _in_rounds("fedprox", f"rho={MU}"),
}


def is_at_end(method: str, place: int) -> bool:
    """Return whether a weight of arrivals is the largest or smallest that was tried.

    Then one beyond might be better still.

    Args:
      method: of ``CONTESTANTS``.
      place: of its settings in its grid.
    """
    contestant = CONTESTANTS[method]
    if not contestant.is_async:
        return False
    given = [parse_method(one.line).given for one in contestant.tries]
    weights = [numbers.get("alpha", numbers.get("step")) for numbers in given]
    return weights[place] in (min(weights), max(weights))


def choose_try(scores: Sequence[Sequence[float]]) -> int:
    """Return the place of the try with the best mean over seeds, of equals the first.

    >>> choose_try([[0.5, 0.7], [0.7, 0.6], [0.65, 0.65]])
    1

    Args:
      scores: of every try, one per tuning seed; more is better.
    """
    means = [sum(row) / len(row) for row in scores]
    return means.index(max(means))
