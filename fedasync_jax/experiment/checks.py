"""What a setting may be: intervals of numbers and lists of names, told in one line."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

from fedasync_jax.data import DATASETS, PARTITIONS
from fedasync_jax.fleet import DELAY_LAWS, LOSE, PAUSE
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.models import CLASSIFIERS, CONVOLUTIONS


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

    def holds(self, value: float) -> bool:
        """Return whether ``value`` lies inside; never for NaN."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        """Return what is allowed, in words."""
        if self.high == math.inf:
            return f"finite and {'>' if self.open_low else '>='} {self.low}{self.note}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"in {left}{self.low}, {self.high}{right}{self.note}"


FEDASYNC = tuple(f"fedasync-{name}" for name in STALENESS_FNS)
METHODS = (*FEDASYNC, "fedavg", "fedprox", "sgd")
SCHEDULES = ("immediate", "periodic", "sampled")
AVAILABILITIES = ("always", "on-off", "daily", "idle-charging-unmetered", "replay")

TEXTS = ("wikitext2", "shakespeare")  # data sets of language models

AT_LEAST_0 = Bounds(0)
AT_LEAST_1 = Bounds(1)
POSITIVE = Bounds(0, open_low=True)
FRACTION = Bounds(0, 1, open_high=True)

BOUNDS = {
    "num_updates": AT_LEAST_1,
    "eval_every": AT_LEAST_1,
    "checkpoint_every": AT_LEAST_1,
    "max_update_norm": POSITIVE,
    "stop_after_rejected": AT_LEAST_1,
    "seed": Bounds(0, 2**32 - 1),
    "num_clients": AT_LEAST_1,
    "concentration": POSITIVE,
    "shards_per_client": AT_LEAST_1,
    "size_sigma": AT_LEAST_0,
    "size_exponent": AT_LEAST_0,
    "feature_skew": Bounds(0, 1),
    "samples_per_client": AT_LEAST_1,
    "text_columns": AT_LEAST_1,
    "bptt": AT_LEAST_1,
    "window": AT_LEAST_1,
    "cnn_hidden": AT_LEAST_1,
    "lstm_size": AT_LEAST_1,
    "lstm_layers": AT_LEAST_1,
    "lstm_biases": Bounds(1, 2),
    "dropout": FRACTION,
    "alpha": Bounds(0, 1, open_low=True),
    "alpha_drop_at": AT_LEAST_0,
    "alpha_drop": Bounds(0, 1, open_low=True),
    "polynomial_a": AT_LEAST_0,
    "hinge_a": POSITIVE,
    "hinge_b": AT_LEAST_0,
    "exponential_a": AT_LEAST_0,
    "linear_a": AT_LEAST_0,
    "num_steps": AT_LEAST_1,
    "epochs": POSITIVE,
    "batch_size": AT_LEAST_1,
    "step_size": POSITIVE,
    "momentum": FRACTION,
    "weight_decay": AT_LEAST_0,
    "clip_norm": POSITIVE,
    "rho": AT_LEAST_0,
    "gamma_rho": AT_LEAST_0,
    "plateau_factor": Bounds(0, 1, open_low=True, open_high=True),
    "warmup_epochs": AT_LEAST_0,
    "warmup_clients": AT_LEAST_1,
    "warmup_step_size": POSITIVE,
    "sgd_batch_size": AT_LEAST_1,
    "sgd_step_size": POSITIVE,
    "interval": POSITIVE,
    "max_staleness": AT_LEAST_1,
    "over_selection": AT_LEAST_0,
    "round_deadline": POSITIVE,
    "time_out": POSITIVE,
    "time_budget": POSITIVE,
    "max_tasks_per_client": AT_LEAST_1,
    "seconds_per_step": POSITIVE,
    "client_sigma": AT_LEAST_0,
    "task_sigma": AT_LEAST_0,
    "network_sigma": AT_LEAST_0,
    "client_shape": POSITIVE,
    "task_shape": POSITIVE,
    "network_shape": POSITIVE,
    "downlink": POSITIVE,
    "uplink": POSITIVE,
    "latency": AT_LEAST_0,
    "mean_on": POSITIVE,
    "mean_off": POSITIVE,
    "charging_from": Bounds(0, 24, open_high=True),
    "charging_hours": Bounds(0, 24, open_low=True),
    "time_zones": AT_LEAST_1,
    "unmetered_on": POSITIVE,
    "unmetered_off": POSITIVE,
    "failure_rate": FRACTION,
}
NAMES = {
    "dataset": (*DATASETS, *TEXTS),
    "partition": (*PARTITIONS, "natural"),
    "model": (*CLASSIFIERS, "lstm"),
    "convolution": ("auto", *CONVOLUTIONS),
    "plateau_on": ("validation", "test"),
    "sampling": ("epochs", "replacement"),
    "schedule": SCHEDULES,
    "client_choice": ("uniform", "data-size"),
    "client_law": DELAY_LAWS,
    "task_law": DELAY_LAWS,
    "network_law": DELAY_LAWS,
    "availability": AVAILABILITIES,
    "when_away": (PAUSE, LOSE),
}


def check_fields(settings: Any) -> None:
    """Raise ValueError unless every field that is in the tables holds.

    Args:
      settings: a dataclass.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in NAMES:
            check_name(field.name, value, NAMES[field.name])
        if field.name in BOUNDS:
            check_bounds(field.name, value, BOUNDS[field.name])


def check_name(field: str, name: str, allowed: Collection[str]) -> None:
    """Raise ValueError unless ``name`` is one of ``allowed``."""
    if name not in allowed:
        raise ValueError(f"{field} must be one of {', '.join(allowed)}, got {name!r}")


def check_bounds(field: str, value: float | None, bounds: Bounds) -> None:
    """Raise ValueError unless ``value`` is None or holds."""
    if value is not None and not bounds.holds(value):
        raise ValueError(f"{field} must be {bounds}, got {value}")
