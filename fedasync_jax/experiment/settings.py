"""Settings of an experiment: a record for each part, and flat names for people.

``Settings`` becomes the flags of the command line and the ``config.json`` of a run
folder, where every setting has a name of its own: ``alpha`` is ``mixing.alpha``. It
holds no objects; ``build`` turns it into them.
"""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import jax
import numpy as np

from fedasync_jax.data.partition.settings import PartitionSettings
from fedasync_jax.data.settings import DataSettings
from fedasync_jax.experiment import seeds
from fedasync_jax.experiment.checks import check_together, count_asked_clients
from fedasync_jax.experiment.method_names import (
    check_methods,
    describe_methods,
    list_of_baselines,
)
from fedasync_jax.fleet.settings import FleetSettings
from fedasync_jax.mixing.settings import MixingSettings
from fedasync_jax.models.settings import ModelSettings
from fedasync_jax.parts.bounds import Bounds, Explained, at_least, one_of
from fedasync_jax.parts.settings import PartSettings, kinds_of
from fedasync_jax.schedule.settings import ScheduleSettings
from fedasync_jax.worker.settings import WorkerSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings(PartSettings):
    """What is run, for how long, and what is kept of it.

    Attributes:
      methods: Methods to run, in this order: rules and baselines by name, with settings
        after a colon where they differ from the default; fedasync-NAME is FedAsync with
        the staleness function NAME.
      num_updates: Client updates that the server mixes (T); the baselines get as many
        gradients.
      eval_every: Updates between evaluations on the test set.
      evaluate_clients: When models are evaluated on every client's own data: end (the
        final ones), always (at every evaluation, too) or never.
      seed: Seed of everything random; the same settings and seed give the same result.
      run_dir: Folder to write to: a new one, or that of a run with the same settings,
        which then goes on (default: a new one under runs/).
      checkpoint_every: Least number of updates between checkpoints; writing them never
        takes more than a twentieth of the time.
      stop_after_rejected: Rejected arrivals in a row after which a method stops at its
        next evaluation; None: never.

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    methods: tuple[Annotated[str, Explained(describe_methods)], ...] = (
        "fedasync-polynomial",
        "fedbuff:size=5",
        "tethered:average=9",
        "fedavg",
        "sgd",
    )
    num_updates: Annotated[int, at_least(1)] = 3000
    eval_every: Annotated[int, at_least(1)] = 50
    evaluate_clients: Annotated[str, one_of(("end", "always", "never"))] = "end"
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0
    run_dir: Path | None = None
    checkpoint_every: Annotated[int, at_least(1)] = 100
    stop_after_rejected: Annotated[int, at_least(1)] | None = 100

    def __post_init__(self) -> None:
        """Check the methods, too."""
        super().__post_init__()
        check_methods(self.methods)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """FedAsync and its baselines on one data set, one fleet, one number of gradients.

    Attributes:
      run: what is run.
      data: what is learned.
      partition: owner of each sample.
      model: what is trained.
      worker: what a worker does in a task.
      mixing: how much an arrival counts.
      schedule: who gets a task, and when.
      fleet: the devices.

    Raises:
      ValueError: in one line that names the setting, the value and what is allowed.
    """

    run: RunSettings = dataclasses.field(default_factory=RunSettings)
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    partition: PartitionSettings = dataclasses.field(default_factory=PartitionSettings)
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    worker: WorkerSettings = dataclasses.field(default_factory=WorkerSettings)
    mixing: MixingSettings = dataclasses.field(default_factory=MixingSettings)
    schedule: ScheduleSettings = dataclasses.field(default_factory=ScheduleSettings)
    fleet: FleetSettings = dataclasses.field(default_factory=FleetSettings)

    def __post_init__(self) -> None:
        """Check what the parts must agree on."""
        sizes, weights = (
            list_of_baselines(self.run.methods, name, default)
            for name, default in (
                ("clients", self.schedule.clients_per_round),
                ("weights", self.mixing.fedavg_weights),
            )
        )
        check_together(self, sizes, weights)

    def __getitem__(self, name: str) -> Any:
        """Return a setting by its flat name."""
        return self.flat()[name]

    def flat(self) -> dict[str, Any]:
        """Return all settings by their flat names."""
        return {
            name: value
            for part in PARTS
            for name, value in getattr(self, part).flat().items()
        }

    def replace(self, **settings: Any) -> Self:
        """Return these settings, some of them replaced by their flat names.

        What is not given and may not be more than the clients, such as
        ``concurrency``, follows a lower ``num_clients``.

        Raises:
          ValueError: if one is unknown or out of range.
        """
        of_part: dict[str, dict[str, Any]] = {}
        names = name_parts()
        for name, value in settings.items():
            if name not in names:
                raise ValueError(f"settings must be known names, got {name}")
            of_part.setdefault(names[name], {})[name] = value
        parts = {p: getattr(self, p) for p in PARTS}
        parts |= {p: parts[p].replace(**of) for p, of in of_part.items()}
        most = parts["partition"].num_clients
        default = parts["schedule"].clients_per_round
        sizes = list_of_baselines(parts["run"].methods, "clients", default)
        asked = count_asked_clients(types.SimpleNamespace(**parts), sizes)
        for name, count in asked.items():
            if name not in settings and count > most:
                part = names[name]
                parts[part] = parts[part].replace(**{name: most})
        return dataclasses.replace(self, **parts)

    def make_rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        """Return the host's generator for a purpose, see ``seeds``."""
        return seeds.make_rng(self.run.seed, purpose, *numbers)

    def make_key(self, purpose: str) -> jax.Array:
        """Return the device's random key for a purpose, see ``seeds``."""
        return seeds.make_key(self.run.seed, purpose)

    def to_json(self) -> dict[str, Any]:
        """Return all settings by their flat names, as JSON values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in self.flat().items()}


PARTS: Mapping[str, type[PartSettings]] = {
    "run": RunSettings,
    "data": DataSettings,
    "partition": PartitionSettings,
    "model": ModelSettings,
    "worker": WorkerSettings,
    "mixing": MixingSettings,
    "schedule": ScheduleSettings,
    "fleet": FleetSettings,
}


def name_places() -> frozenset[str]:
    """Return the settings that say where something lies, by their flat names."""
    hints = [item for record in PARTS.values() for item in record.hints().items()]
    return frozenset(name for name, hint in hints if Path in kinds_of(hint))


def name_parts() -> dict[str, str]:
    """Return the part of every setting, by its flat name.

    Raises:
      ValueError: if two parts have a setting of the same name.
    """
    names: dict[str, str] = {}
    for part, record in PARTS.items():
        for name in record.hints():
            if name in names:
                raise ValueError(f"{name} must be a setting of one part, got {part}")
            names[name] = part
    return names
