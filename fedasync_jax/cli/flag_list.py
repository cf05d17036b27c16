"""The flags of commands that train, as help and completion show them."""

import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fedasync_jax.cli.flags import explain
from fedasync_jax.experiment.presets import FLEETS, PRESETS
from fedasync_jax.experiment.settings import PARTS, Settings
from fedasync_jax.jobs.loggers.names import LOGGER_NAMES
from fedasync_jax.parts.bounds import OneOf, find_allowed
from fedasync_jax.parts.settings import PartSettings


class Flag(NamedTuple):
    """A flag.

    Attributes:
      name: of the setting or the attribute, such as ``num_updates``.
      metavar: what stands behind it; empty: nothing does.
      help: what it does.
      default: as it is shown; empty: there is none to tell.
      choices: names that it may have.
      takes_many: whether it takes several values.
      is_common: whether the short help shows it.
    """

    name: str
    metavar: str
    help: str
    default: str = ""
    choices: tuple[str, ...] = ()
    takes_many: bool = False
    is_common: bool = True

    @property
    def word(self) -> str:
        """As it is typed."""
        return f"--{self.name.replace('_', '-')}"


class Group(NamedTuple):
    """Flags that belong together, the most used first."""

    title: str
    description: str
    flags: Sequence[Flag]


# Parts by group, and what of them the short help shows, in its order.
_GROUPS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "data",
        "What is learned, and whose each sample is.",
        ("data", "partition"),
        ("dataset", "data_path", "num_clients", "partition", "concentration"),
    ),
    ("model", "What is trained.", ("model",), ("model", "hidden", "dropout")),
    (
        "clients' work",
        "What a client does with the model that it receives.",
        ("worker",),
        ("step_size", "batch_size", "num_steps", "epochs", "rho", "momentum"),
    ),
    (
        "mixing",
        "How much an arrival counts.",
        ("mixing",),
        ("alpha", "polynomial_a", "hinge_a", "hinge_b", "max_update_norm"),
    ),
    (
        "fleet",
        "How fast the devices are, and when they are there.",
        ("fleet",),
        ("client_law", "client_sigma", "task_law", "availability", "failure_rate"),
    ),
    (
        "schedule",
        "Who gets a task, and when.",
        ("schedule",),
        ("schedule", "concurrency", "clients_per_round", "max_staleness"),
    ),
    (
        "run",
        "What is run, for how long, and what is kept of it.",
        ("run",),
        ("methods", "num_updates", "eval_every", "evaluate_clients", "seed", "run_dir"),
    ),
)

_STARTS = (
    Flag("preset", "NAME", "Settings to start from.", "digits", tuple(PRESETS)),
    Flag("fleet", "NAME", "Devices in the place of the preset's.", "", tuple(FLEETS)),
    Flag(
        "config",
        "FILE",
        "JSON or TOML file of settings by their names here, or the config.json of a "
        "run; flags have precedence.",
    ),
)
_KEPT = (
    Flag(
        "load",
        "FILE ...",
        "Python files or modules that register parts of your own; what they declare "
        "become flags.",
        takes_many=True,
    ),
    Flag("no_compile_cache", "", "Compile every program anew."),
    Flag("version", "", "Print the version.", is_common=False),
)
_DISTRIBUTED = (
    Flag(
        "coordinator_address",
        "HOST:PORT",
        "Of process 0, where several processes share the work: each is given it, their "
        "number and its own. SLURM, Open MPI 4 and TPU pods tell it by themselves.",
        is_common=False,
    ),
    Flag("num_processes", "N", "How many processes there are.", is_common=False),
    Flag("process_id", "N", "Which of them this is, from 0.", is_common=False),
    Flag(
        "initialization_timeout",
        "SECONDS",
        "How long to wait for the other processes.",
        "300",
        is_common=False,
    ),
    Flag(
        "no_distributed",
        "",
        "Run each process that SLURM, Open MPI or a TPU pod has started alone.",
        is_common=False,
    ),
)
TRAIN_FLAGS = (
    *_STARTS,
    Flag("resume", "RUN", "Go on with a run that was interrupted, or go further."),
    Flag("summary", "RUN", "Only say what a run or a sweep is, and how far it came."),
    Flag("check", "", "Test every schedule for what must always hold."),
    Flag(
        "log_to",
        "NAME ...",
        "Write the metrics for others as well.",
        choices=LOGGER_NAMES,
        takes_many=True,
    ),
    Flag("tensorboard", "", "The same as --log-to tensorboard.", is_common=False),
    *_DISTRIBUTED,
    *_KEPT,
)
SWEEP_FLAGS = (
    *_STARTS,
    Flag(
        "grid",
        "NAME=VALUE,VALUE ...",
        "Settings and their values; several make all combinations. In a setting that "
        "is a list, + joins its entries: methods=fedavg+sgd.",
        takes_many=True,
    ),
    Flag("seeds", "N ...", "Seeds of every combination.", "0 1 2", takes_many=True),
    Flag(
        "out",
        "FOLDER",
        "Folder of the sweep: a run for every combination and seed; "
        "those that are finished are not run again.",
        "runs/sweep",
    ),
    Flag(
        "together",
        "N",
        "Runs that share a compiled program, at most.",
        "8 on a CPU, else 64",
    ),
    Flag("max_minutes", "X", "Stop after so many minutes; the same command goes on."),
    Flag(
        "ray",
        "WHERE",
        "Run on a cluster of Ray: local (made on this machine, for this), auto (the "
        "one that is found) or HOST:PORT.",
    ),
    Flag("ray_cpus", "N", "CPUs of a worker.", "1"),
    Flag("ray_gpus", "X", "GPUs of a worker.", "1 where there are some"),
    *_DISTRIBUTED,
    *_KEPT,
)


def list_groups(own: Iterable[Flag], default: Settings) -> list[Group]:
    """Return all flags of a command in groups.

    Args:
      own: those that are no settings.
      default: of the settings.
    """
    command = [flag for flag in own if flag not in _DISTRIBUTED]
    groups = [Group("command", "What the command starts from, and does.", command)]
    values = default.flat()
    for title, description, parts, common in _GROUPS:
        flags = {
            name: _make_flag(PARTS[part], name, values[name], common)
            for part in parts
            for name in PARTS[part].hints()
        }
        first = [flags.pop(name) for name in common]
        groups.append(Group(title, description, [*first, *flags.values()]))
    about = "How several processes share the work, see docs/clusters.md."
    return [*groups, Group("processes", about, _DISTRIBUTED)]


def _make_flag(
    record: type[PartSettings], name: str, value: Any, common: Sequence[str]
) -> Flag:
    hint = record.hints()[name]
    choices = [note.names for note in find_allowed(hint) if isinstance(note, OneOf)]
    setting = record.choices().get(name)
    is_loaded = setting is not None and not setting.factory.__module__.startswith(
        "fedasync_jax."
    )
    metavar = _describe_type(hint)
    return Flag(
        name=name,
        metavar=metavar,
        help=explain(record, name),
        default=_show_default(value),
        choices=choices[0] if choices else (),
        takes_many=metavar.endswith("..."),
        is_common=name in common or is_loaded,
    )


def _describe_type(hint: Any) -> str:
    """Return what stands behind a flag.

    >>> _describe_type(tuple[int, ...]), _describe_type(float | None)
    ('N ...', 'X')
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _describe_type(inner[0])
    if origin in (typing.Union, types.UnionType):
        return _describe_type(next(one for one in inner if one is not type(None)))
    if inner and Ellipsis not in inner and origin is tuple:
        return " ".join(map(_describe_type, inner))
    if inner:
        return f"{_describe_type(inner[0])} ..."
    return {int: "N", float: "X", Path: "PATH"}.get(hint, "NAME")


def _show_default(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
