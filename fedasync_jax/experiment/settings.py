"""Settings of an experiment: names and numbers, checked before anything is built.

A ``Settings`` becomes the flags of ``scripts/train.py`` and the ``config.json`` of a
run folder. It holds no objects; ``experiment`` turns it into them.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedasync_jax.experiment.checks import (
    AT_LEAST_1,
    METHODS,
    TEXTS,
    Bounds,
    check_bounds,
    check_name,
)
from fedasync_jax.experiment.schedule_settings import ScheduleSettings

_DEFAULT_RHO = 0.01

# The order is for ever: a generator is made from the place.
_PURPOSES = (
    "partition",
    "fleet",
    "schedule",
    "init",
    "tasks",
    "passes",
    "warmup",
    "network",
    "availability",
    "timeline",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(ScheduleSettings):
    """FedAsync and its baselines on one data set, one fleet, one number of gradients.

    Attributes:
      methods: What to run, in this order: fedasync-constant, fedasync-polynomial,
        fedasync-hinge, fedasync-exponential, fedasync-linear, fedavg, fedprox, sgd.
      num_updates: Client updates that the server mixes (T); the baselines get as many
        gradients.
      eval_every: Updates between evaluations on the test set.
      seed: Seed of everything random. Same settings and seed: same result.
      checkpoint_every: Updates between checkpoints at the least; writing them never
        takes more than a twentieth of the time.
      max_update_norm: If set, a client's model is rejected if its distance from the
        model that it received, ||x_new - x_tau||, is larger.
      stop_after_rejected: Arrivals in a row that are all rejected, after which a method
        stops at its next evaluation; None: never.
      run_dir: Folder to write to: a new one, or that of a run with the same settings,
        which then goes on. Default: a new one under runs/.
      dataset: digits (1,797 real 8x8 images that scikit-learn carries), npz (your own),
        cifar10, wikitext2 (a text by words) or shakespeare (a text by characters).
      data_path: of npz: the file, with x_train, y_train, x_test, y_test; of cifar10: a
        folder with cifar10.npz, with the batches of its python or binary version, or
        prepared by tensorflow-datasets (default: there, in its own folder); of
        wikitext2: a folder with train, valid and test .txt or wiki.*.tokens; of
        shakespeare: one with input.txt. Texts may be .xz or .gz.
      num_clients: Clients that the training samples are dealt to; of shakespeare: the
        speakers who say most.
      partition: iid, shards, dirichlet (non-IID labels), quantity-skew or power-law
        (unequal sizes), feature-skew (same labels, other styles), replacement (samples
        that clients share, for more clients than samples) or natural: batch i of
        wikitext2 belongs to client i mod C, a client of shakespeare is a speaker, and
        an npz may have an array client_train.
      concentration: Concentration of dirichlet; the smaller, the fewer labels a client
        has.
      shards_per_client: Shards of sorted samples per client, of partition shards.
      size_sigma: Log-normal sigma of client sizes, of partition quantity-skew.
      size_exponent: Exponent of client sizes by rank, of partition power-law.
      feature_skew: How much the styles differ, in [0, 1], of partition feature-skew.
      samples_per_client: Samples that each client draws, of partition replacement.
      text_columns: Texts side by side in a batch of wikitext2.
      bptt: Words of each of them in a batch of wikitext2.
      window: Characters of a sample of shakespeare.
      model: mlp, cnn (small), paper-cnn or, for texts, lstm.
      hidden: Widths of the hidden layers of mlp.
      cnn_channels: Channels of the blocks of paper-cnn.
      cnn_hidden: Width of the dense layer of paper-cnn.
      convolution: Of cnn and paper-cnn: xla, patches (and a matrix product) or auto,
        what was measured to be fastest.
      lstm_size: Width of the embedding and of the layers of lstm.
      lstm_layers: Layers of lstm.
      lstm_biases: Bias vectors per layer of lstm: 1, or 2 as in cuDNN.
      dropout: Share that dropout of paper-cnn and lstm sets to zero, in [0, 1).
      alpha: Mixing hyperparameter in (0, 1]: weight of an arrival that is not stale.
      alpha_drop_at: If set, alpha is multiplied by alpha_drop from this version on.
      alpha_drop: Factor on alpha at alpha_drop_at, in (0, 1].
      polynomial_a: a of polynomial staleness, (d + 1)^(-a).
      hinge_a: a of hinge staleness, 1 if d <= b else 1 / (a (d - b) + 1).
      hinge_b: b of hinge staleness, in versions; sensible near the staleness that
        occurs.
      exponential_a: a of exponential staleness, exp(-a d).
      linear_a: a of linear staleness, 1 / (a d + 1).
      num_steps: Local steps of a task (H).
      max_steps: If set, H is drawn per task, uniformly from num_steps to max_steps.
      epochs: If set, H follows from this many passes over the client's own samples.
      time_budget: If set, H is what a device can do in these simulated seconds of
        training, from num_steps to max_steps.
      batch_size: Samples of a local step; 1 for wikitext2, whose samples are batches.
      sampling: epochs (reshuffled passes over the client's samples) or replacement.
      step_size: Step size of local SGD (gamma).
      momentum: Momentum of local SGD, in [0, 1); begins anew with every task.
      weight_decay: Weight of 1/2 ||x||^2 in the loss; its gradient is added after
        clipping.
      clip_norm: If set, the gradient is cut to this global norm, before weight decay
        and the proximal term are added.
      rho: Weight of the proximal term of FedAsync and FedProx, rho/2 ||x -
        x_received||^2 (the paper's rho, not its product with the step size). Default:
        0.01, unless gamma_rho is set.
      gamma_rho: The product step_size * rho, as the authors' code has it, instead of
        rho: then rho is gamma_rho / step_size.
      plateau_factor: If set, the step size is multiplied by this, in (0, 1), after an
        evaluation that is no better than the best before.
      plateau_on: What is looked at then: validation or test (loss).
      warmup_epochs: Passes over the data of the first clients, before version 0, by
        plain SGD; all methods start from the result.
      warmup_clients: Number of these clients, one after the other in each pass.
      warmup_step_size: Step size of the warm-up.
      sgd_batch_size: Samples of a step of sgd. Default: batch_size. A step of twice
        batch_size counts as two gradients.
      sgd_step_size: Step size of sgd. Default: step_size.

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
    checkpoint_every: int = 100
    max_update_norm: float | None = None
    stop_after_rejected: int | None = 100
    run_dir: Path | None = None

    dataset: str = "digits"
    data_path: Path | None = None
    num_clients: int = 100
    partition: str = "dirichlet"
    concentration: float = 0.3
    shards_per_client: int = 2
    size_sigma: float = 1.0
    size_exponent: float = 1.0
    feature_skew: float = 1.0
    samples_per_client: int = 20

    text_columns: int = 20
    bptt: int = 35
    window: int = 80

    model: str = "mlp"
    hidden: tuple[int, ...] = (64,)
    cnn_channels: tuple[int, ...] = (64, 128)
    cnn_hidden: int = 512
    convolution: str = "auto"
    lstm_size: int = 200
    lstm_layers: int = 2
    lstm_biases: int = 1
    dropout: float = 0.25

    alpha: float = 0.6
    alpha_drop_at: int | None = None
    alpha_drop: float = 0.5
    polynomial_a: float = 0.5
    hinge_a: float = 10.0
    hinge_b: float = 4.0
    exponential_a: float = 0.3
    linear_a: float = 1.0

    num_steps: int = 5
    max_steps: int | None = None
    epochs: float | None = None
    time_budget: float | None = None
    batch_size: int = 10
    sampling: str = "epochs"
    step_size: float = 0.2
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    rho: float | None = None
    gamma_rho: float | None = None
    plateau_factor: float | None = None
    plateau_on: str = "validation"
    warmup_epochs: int = 0
    warmup_clients: int = 1
    warmup_step_size: float = 0.01
    sgd_batch_size: int | None = None
    sgd_step_size: float | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        for method in self.methods:
            check_name("methods", method, METHODS)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(
                "methods must be one or more different names, "
                f"got {' '.join(self.methods) or 'none'}"
            )
        for name in ("hidden", "cnn_channels"):
            for width in getattr(self, name):
                check_bounds(name, width, AT_LEAST_1)
        self._check_counts()
        self._check_pairs()
        self._check_data()

    def _check_counts(self) -> None:
        limits = {"immediate": "concurrency", "periodic": "num_triggered"}
        fields = [limits[self.schedule]] if self.schedule in limits else []
        if {"fedavg", "fedprox"} & set(self.methods):
            fields.append("clients_per_round")
        if self.warmup_epochs:
            fields.append("warmup_clients")
        for name in fields:
            bounds = Bounds(1, self.num_clients, note=" (the number of clients)")
            check_bounds(name, getattr(self, name), bounds)

    def _check_pairs(self) -> None:
        for name, other in (("max_steps", "epochs"), ("rho", "gamma_rho")):
            values = getattr(self, name), getattr(self, other)
            if None not in values:
                raise ValueError(
                    f"{name} must not be set together with {other}, "
                    f"got {values[0]} and {values[1]}"
                )
        if self.max_steps is not None:
            check_bounds("max_steps", self.max_steps, Bounds(self.num_steps))
        if self.time_budget is not None and (
            self.max_steps is None or self.schedule == "sampled"
        ):
            raise ValueError(
                "time_budget must be set together with max_steps and another schedule "
                f"than sampled, got {self.time_budget} with max_steps "
                f"{self.max_steps}, schedule {self.schedule}"
            )

    def _check_data(self) -> None:
        """Check what fits the data set."""
        is_text = self.dataset in TEXTS
        wrong = {
            "model": (self.model == "lstm") != is_text,
            "partition": is_text != (self.partition == "natural")
            and (self.dataset != "npz" or is_text),
            "batch_size": self.dataset == "wikitext2" and self.batch_size != 1,
            "sgd_batch_size": self.dataset == "wikitext2"
            and self.sgd_batch_size not in (None, 1),
            "plateau_on": self.plateau_factor is not None
            and self.plateau_on == "validation"
            and self.dataset != "wikitext2",
        }
        allowed = {
            "model": "lstm" if is_text else "mlp, cnn or paper-cnn",
            "partition": "natural" if is_text else "another than natural",
            "plateau_on": "test",
        }
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise ValueError(
                f"{name} must be {allowed.get(name, 1)} for data set {self.dataset}, "
                f"got {getattr(self, name)}"
            )

    @property
    def proximal_weight(self) -> float:
        """The paper's rho, whichever way it was given."""
        if self.gamma_rho is not None:
            return self.gamma_rho / self.step_size
        return _DEFAULT_RHO if self.rho is None else self.rho

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
