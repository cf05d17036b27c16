"""The baselines by name, and what a line such as ``fedavg:clients=20`` may set of them.

A setting of a line takes the place of the flag of the whole experiment, for this line.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from fedasync_jax.mixing.rounds import RoundWeights
from fedasync_jax.parts.bounds import above, at_least
from fedasync_jax.schedule.schedulers import RoundSelection

_Count = Annotated[int, at_least(1)]
_Positive = Annotated[float, above(0)]
_Least0 = Annotated[float, at_least(0)]


class Place(NamedTuple):
    """Where a setting of a line goes.

    Attributes:
      part: "schedule", "worker" or "mixing".
      name: of the setting there.
      hint: what is allowed, as there.
    """

    part: str
    name: str
    hint: Any


_ROUNDS = {
    "clients": Place("schedule", "clients_per_round", _Count),
    "over_selection": Place("schedule", "over_selection", _Least0),
    "deadline": Place("schedule", "round_deadline", _Positive | None),
    "selection": Place("schedule", "round_selection", RoundSelection),
    "weights": Place("mixing", "fedavg_weights", RoundWeights),
}

BASELINES: Mapping[str, Mapping[str, Place]] = {
    "fedavg": _ROUNDS,
    "fedprox": {**_ROUNDS, "rho": Place("worker", "rho", _Least0 | None)},
    "sgd": {
        "batch_size": Place("worker", "sgd_batch_size", _Count | None),
        "step_size": Place("worker", "sgd_step_size", _Positive | None),
    },
}


def sort_by_part(name: str, given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of a line by part and by the name that they have there."""
    parts: dict[str, dict[str, Any]] = {}
    for setting, value in given.items():
        place = BASELINES[name][setting]
        parts.setdefault(place.part, {})[place.name] = value
    return parts
