"""Settings of an experiment: names and numbers, checked before anything is built.

A ``Settings`` becomes the flags of ``scripts/train.py`` and the ``config.json`` of a
run folder. It holds no objects; ``experiment`` turns it into them.
"""

import dataclasses
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedasync_jax.data import DATASETS, PARTITIONS
from fedasync_jax.fleet import DELAY_LAWS
from fedasync_jax.models import CLASSIFIERS
from fedasync_jax.staleness import STALENESS_FNS

FEDASYNC = tuple(f"fedasync-{name}" for name in STALENESS_FNS)
METHODS = (*FEDASYNC, "fedavg", "fedprox", "sgd")
SCHEDULES = ("immediate", "periodic", "sampled")

_PURPOSES = ("partition", "fleet", "schedule", "init", "tasks")  # order is for ever


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """FedAsync and its baselines on one data set, one fleet, one number of gradients.

    Attributes:
      methods: What to run, in this order: fedasync-constant, fedasync-polynomial,
        fedasync-hinge, fedasync-exponential, fedasync-linear, fedavg, fedprox, sgd.
      num_updates: Client updates that the server mixes (T); the baselines get as many
        gradients.
      eval_every: Updates between evaluations on the test set.
      seed: Seed of everything random. Same settings and seed: same result.
      run_dir: Folder to write to; must not exist. Default: a new one under runs/.
      dataset: digits (1,797 real 8x8 images that scikit-learn carries), npz (your own)
        or cifar10 (from files that you have).
      data_path: of npz: the file, with x_train, y_train, x_test, y_test; of cifar10: a
        folder with cifar10.npz or with the batches of its python or binary version.
      num_clients: Clients that the training samples are dealt to.
      partition: iid, shards, dirichlet (non-IID labels) or quantity-skew (unequal
        sizes).
      concentration: Concentration of dirichlet; the smaller, the fewer labels a client
        has.
      shards_per_client: Shards of sorted samples per client, of partition shards.
      size_sigma: Log-normal sigma of client sizes, of partition quantity-skew.
      model: mlp or cnn.
      hidden: Widths of the hidden layers of mlp.
      alpha: Mixing hyperparameter in (0, 1]: weight of an arrival that is not stale.
      polynomial_a: a of polynomial staleness, (d + 1)^(-a).
      hinge_a: a of hinge staleness, 1 if d <= b else 1 / (a (d - b) + 1).
      hinge_b: b of hinge staleness, in versions; sensible near the staleness that
        occurs.
      exponential_a: a of exponential staleness, exp(-a d).
      linear_a: a of linear staleness, 1 / (a d + 1).
      clients_per_round: Clients per round of fedavg and fedprox (k).
      num_steps: Local steps of a task (H).
      max_steps: If set, H is drawn per task, uniformly from num_steps to max_steps.
      epochs: If set, H follows from this many passes over the client's own samples.
      batch_size: Samples of a local step.
      sampling: epochs (reshuffled passes over the client's samples) or replacement.
      step_size: Step size of local SGD (gamma).
      momentum: Momentum of local SGD, in [0, 1); begins anew with every task.
      rho: Weight of the proximal term of FedAsync and FedProx, rho/2 ||x -
        x_received||^2 (the paper's rho, not its product with the step size).
      schedule: immediate (every arrival is replaced at once), periodic (triggers at an
        interval) or sampled (the paper's: staleness drawn, no clock).
      concurrency: Tasks in flight, of schedule immediate.
      interval: Simulated seconds between triggers, of schedule periodic.
      num_triggered: Idle workers triggered at a time, of schedule periodic.
      max_staleness: Newest versions to draw the start from, of schedule sampled.
      seconds_per_step: Simulated seconds of one local step on a client of factor 1.
      client_law: Law of how slow a client is for good: constant, uniform, exponential
        or log-normal factors.
      client_sigma: Log-normal sigma of the client factors.
      client_range: Lowest and highest of uniform client factors.
      task_law: Law of the factor on every single task: constant, uniform, exponential
        or log-normal.
      task_sigma: Log-normal sigma of the task factors.
      task_range: Lowest and highest of uniform task factors.

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    methods: tuple[str, ...] = (
        "fedasync-constant",
        "fedasync-polynomial",
        "fedasync-hinge",
        "fedavg",
        "fedprox",
        "sgd",
    )
    num_updates: int = 3000
    eval_every: int = 50
    seed: int = 0
    run_dir: Path | None = None

    dataset: str = "digits"
    data_path: Path | None = None
    num_clients: int = 100
    partition: str = "dirichlet"
    concentration: float = 0.3
    shards_per_client: int = 2
    size_sigma: float = 1.0

    model: str = "mlp"
    hidden: tuple[int, ...] = (64,)

    alpha: float = 0.6
    polynomial_a: float = 0.5
    hinge_a: float = 10.0
    hinge_b: float = 4.0
    exponential_a: float = 0.3
    linear_a: float = 1.0
    clients_per_round: int = 10

    num_steps: int = 5
    max_steps: int | None = None
    epochs: float | None = None
    batch_size: int = 10
    sampling: str = "epochs"
    step_size: float = 0.2
    momentum: float = 0.0
    rho: float = 0.01

    schedule: str = "immediate"
    concurrency: int = 20
    interval: float = 5.0
    num_triggered: int = 10
    max_staleness: int = 4
    seconds_per_step: float = 1.0
    client_law: str = "log-normal"
    client_sigma: float = 1.0
    client_range: tuple[float, float] = (0.5, 1.5)
    task_law: str = "constant"
    task_sigma: float = 0.25
    task_range: tuple[float, float] = (0.5, 1.5)

    def __post_init__(self) -> None:
        """Check every field."""
        for name, allowed in _NAMES.items():
            _check_name(name, getattr(self, name), allowed)
        for name, bounds in _BOUNDS.items():
            _check_bounds(name, getattr(self, name), bounds)
        for method in self.methods:
            _check_name("methods", method, METHODS)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(
                "methods must be one or more different names, "
                f"got {' '.join(self.methods) or 'none'}"
            )
        for width in self.hidden:
            _check_bounds("hidden", width, _AT_LEAST_1)
        self._check_pairs()

    def _check_pairs(self) -> None:
        limits = {"immediate": "concurrency", "periodic": "num_triggered"}
        fields = [limits[self.schedule]] if self.schedule in limits else []
        if {"fedavg", "fedprox"} & set(self.methods):
            fields.append("clients_per_round")
        for name in fields:
            bounds = Bounds(1, self.num_clients, note=" (the number of clients)")
            _check_bounds(name, getattr(self, name), bounds)
        if self.max_steps is not None and self.epochs is not None:
            raise ValueError(
                "max_steps must not be set together with epochs, "
                f"got {self.max_steps} and {self.epochs}"
            )
        if self.max_steps is not None:
            _check_bounds("max_steps", self.max_steps, Bounds(self.num_steps))
        for name in ("client_range", "task_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(
                    f"{name} must be 0 < low <= high < inf, got {low} {high}"
                )

    def make_rng(self, purpose: str) -> np.random.Generator:
        """Return the host's generator for a purpose; the same at every call."""
        return np.random.default_rng([self.seed, _PURPOSES.index(purpose)])

    def make_key(self, purpose: str) -> jax.Array:
        """Return the device's random key for a purpose; the same at every call."""
        return jax.random.fold_in(jax.random.key(self.seed), _PURPOSES.index(purpose))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        fields = dataclasses.asdict(self)
        return {k: str(v) if isinstance(v, Path) else v for k, v in fields.items()}


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


_AT_LEAST_0 = Bounds(0)
_AT_LEAST_1 = Bounds(1)
_POSITIVE = Bounds(0, open_low=True)
_BOUNDS = {
    "num_updates": _AT_LEAST_1,
    "eval_every": _AT_LEAST_1,
    "seed": Bounds(0, 2**32 - 1),
    "num_clients": _AT_LEAST_1,
    "concentration": _POSITIVE,
    "shards_per_client": _AT_LEAST_1,
    "size_sigma": _AT_LEAST_0,
    "alpha": Bounds(0, 1, open_low=True),
    "polynomial_a": _AT_LEAST_0,
    "hinge_a": _POSITIVE,
    "hinge_b": _AT_LEAST_0,
    "exponential_a": _AT_LEAST_0,
    "linear_a": _AT_LEAST_0,
    "num_steps": _AT_LEAST_1,
    "epochs": _POSITIVE,
    "batch_size": _AT_LEAST_1,
    "step_size": _POSITIVE,
    "momentum": Bounds(0, 1, open_high=True),
    "rho": _AT_LEAST_0,
    "interval": _POSITIVE,
    "max_staleness": _AT_LEAST_1,
    "seconds_per_step": _POSITIVE,
    "client_sigma": _AT_LEAST_0,
    "task_sigma": _AT_LEAST_0,
}
_NAMES = {
    "dataset": DATASETS,
    "partition": PARTITIONS,
    "model": CLASSIFIERS,
    "sampling": ("epochs", "replacement"),
    "schedule": SCHEDULES,
    "client_law": DELAY_LAWS,
    "task_law": DELAY_LAWS,
}


def _check_name(field: str, name: str, allowed: Collection[str]) -> None:
    if name not in allowed:
        raise ValueError(f"{field} must be one of {', '.join(allowed)}, got {name!r}")


def _check_bounds(field: str, value: float | None, bounds: Bounds) -> None:
    if value is not None and not bounds.holds(value):
        raise ValueError(f"{field} must be {bounds}, got {value}")
