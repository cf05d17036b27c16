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
        return spell_flag(self.name)


def spell_flag(name: str) -> str:
    """Return the flag of a setting as it is typed.

    >>> spell_flag("num_updates")
    '--num-updates'
    """
    return f"--{name.replace('_', '-')}"


class Group(NamedTuple):
    """Flags that belong together, the most used first."""

    title: str
    description: str
    flags: Sequence[Flag]


# Parts by group, and what of them the short help shows, in its order.
_GROUPS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "data",
        "The samples, and the clients that own them.",
        ("data", "partition"),
        ("dataset", "data_path", "num_clients", "partition", "concentration"),
    ),
    (
        "model",
        "The network that is trained.",
        ("model",),
        ("model", "hidden", "dropout"),
    ),
    (
        "clients' work",
        "What a client does with the model that it receives.",
        ("worker",),
        ("step_size", "batch_size", "num_steps", "epochs", "rho", "momentum"),
    ),
    (
        "mixing",
        "The weight of an arrival.",
        ("mixing",),
        ("alpha", "polynomial_a", "hinge_a", "hinge_b", "max_update_norm"),
    ),
    (
        "fleet",
        "The speed of the devices, and the times at which they can train.",
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
        "The methods, their length, and what is kept.",
        ("run",),
        ("methods", "num_updates", "eval_every", "evaluate_clients", "seed", "run_dir"),
    ),
)

_STARTS = (
    Flag("preset", "NAME", "Settings to start from.", "digits", tuple(PRESETS)),
    Flag(
        "fleet", "NAME", "Devices that replace those of the preset.", "", tuple(FLEETS)
    ),
    Flag(
        "config",
        "FILE",
        "JSON or TOML file with settings by the names listed here, or the config.json "
        "of a run; flags take precedence.",
    ),
)
_KEPT = (
    Flag(
        "load",
        "FILE ...",
        "Python files or modules that register parts of your own; their settings "
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
    Flag(
        "resume",
        "RUN",
        "Continue a run that was interrupted, or extend a finished one.",
    ),
    Flag(
        "summary", "RUN", "Describe a run or a sweep and its progress; train nothing."
    ),
    Flag(
        "check",
        "",
        "Check that no schedule breaks a rule of time, order or availability.",
    ),
    Flag(
        "log_to",
        "NAME ...",
        "Send the metrics to other trackers, too.",
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
        "Settings and their values; all combinations are run. In a setting that is a "
        "list, + joins the entries: methods=fedavg+sgd.",
        takes_many=True,
    ),
    Flag("seeds", "N ...", "Seeds of every combination.", "0 1 2", takes_many=True),
    Flag(
        "out",
        "FOLDER",
        "Folder of the sweep, with a run for every combination and seed; finished "
        "runs are not repeated.",
        "runs/sweep",
    ),
    Flag(
        "together",
        "N",
        "Most runs that share a compiled program.",
        "8 on a CPU, else 64",
    ),
    Flag(
        "max_minutes",
        "X",
        "Minutes after which the sweep stops; the same command continues it.",
    ),
    Flag(
        "ray",
        "WHERE",
        "Run on a cluster of Ray: local (made on this machine for this command), auto "
        "(the one that is found) or HOST:PORT.",
    ),
    Flag("ray_cpus", "N", "CPUs of a worker.", "1"),
    Flag("ray_gpus", "X", "GPUs of a worker.", "1 where the cluster has GPUs"),
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
    groups = [
        Group(
            "command",
            "Where the command starts, and what it does besides training.",
            command,
        )
    ]
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
    metavar = describe_type(hint)
    return Flag(
        name=name,
        metavar=metavar,
        help=explain(record, name),
        default=show_default(value),
        choices=choices[0] if choices else (),
        takes_many=metavar.endswith("..."),
        is_common=name in common or is_loaded,
    )


def describe_type(hint: Any) -> str:
    """Return what stands behind a flag.

    >>> describe_type(tuple[int, ...]), describe_type(float | None)
    ('N ...', 'X')
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return describe_type(inner[0])
    if origin in (typing.Union, types.UnionType):
        return describe_type(next(one for one in inner if one is not type(None)))
    if inner and Ellipsis not in inner and origin is tuple:
        return " ".join(map(describe_type, inner))
    if inner:
        return f"{describe_type(inner[0])} ..."
    return {int: "N", float: "X", Path: "PATH"}.get(hint, "NAME")


def show_default(value: Any) -> str:
    """Return a default as help shows it; nothing for None."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
