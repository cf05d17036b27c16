"""Compare FedAsync with its baselines on one data set and one fleet of clients.

Without a flag: handwritten digits, 100 clients, slow and fast ones. The results go into
a new folder under runs/. ``--preset NAME`` starts from other settings, ``--fleet NAME``
replaces the devices, ``--check`` tests every schedule for what must always hold, and
``--tensorboard`` writes the metrics for TensorBoard as well. ``--no-compile-cache``
compiles every program anew.
``--resume RUN`` goes on with a run that was interrupted, or with more updates.
``--summary RUN`` only says what a run is and how far it came. ``--load FILE.py`` first
imports a file that registers parts of your own; what they declare become flags.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from fedasync_jax.cli.describe import describe_run
from fedasync_jax.cli.flags import OwnParser, fail, parse_settings
from fedasync_jax.cli.own_parts import load_parts
from fedasync_jax.experiment.presets import FLEETS, PRESETS, from_json, make_settings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.storage.config import read_config


class TrainCommand(NamedTuple):
    """The command line.

    Attributes:
      preset: name of the settings it starts from.
      fleet: name of the devices that replace those of the preset; None: none.
      check: whether to test every schedule.
      tensorboard: whether to write for TensorBoard.
      load: files and modules with parts of the user's own.
      compile_cache: whether to keep compiled programs on the disk.
      settings: of the experiment.
    """

    preset: str
    fleet: str | None
    check: bool
    tensorboard: bool
    load: Sequence[str]
    compile_cache: bool
    settings: Settings


def parse_train(args: Sequence[str]) -> TrainCommand:
    """Return the command line."""
    parser = OwnParser()
    parser.add_argument("--preset", default="digits", nargs="?")
    parser.add_argument("--fleet", default=None, nargs="?", const="")
    parser.add_argument("--resume", default=None, nargs="?", const="")
    parser.add_argument("--summary", default=None, nargs="?", const="")
    parser.add_argument("--load", default=[], nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tensorboard", action="store_true")
    known, rest = parser.parse_known_args(args)
    load_parts(known.load)
    if known.summary is not None:
        _print_summary(Path(known.summary), rest)
    if known.resume is not None:
        return _resume(known, rest)
    flags = {arg.split("=")[0].replace("_", "-") for arg in rest}
    # A rho of the preset gives way to a gamma_rho of the user's, not one of the user's.
    overrides = {"rho": None} if "--gamma-rho" in flags else {}
    try:
        default = make_settings(known.preset, known.fleet, **overrides)
    except ValueError as error:
        fail(error)
    lines = [
        f"{flag} {name}: {preset.description}"
        for flag, presets in (("--preset", PRESETS), ("--fleet", FLEETS))
        for name, preset in presets.items()
    ]
    description = "\n\n".join([__doc__ or "", *lines])
    settings = parse_settings(description, args=rest, default=default)
    if known.fleet is not None and settings.schedule.schedule == "sampled":
        fail(
            f"fleet must not be given for schedule sampled, which has no clock, got "
            f"{known.fleet} (--schedule immediate has one)"
        )
    extras = _list_extras(known)
    return TrainCommand(known.preset, known.fleet, *extras, settings)


def _list_extras(
    known: argparse.Namespace,
) -> tuple[bool, bool, Sequence[str], bool]:
    """Return what is no setting, in the order of ``TrainCommand``."""
    return known.check, known.tensorboard, known.load, not known.no_compile_cache


def _print_summary(run_dir: Path, rest: Sequence[str]) -> NoReturn:
    """Say what a run is, and end the process."""
    try:
        if rest:
            raise ValueError(f"summary must stand alone, got {' '.join(rest)}")
        for line in describe_run(run_dir):
            print(line)
    except ValueError as error:
        fail(error)
    sys.exit(0)


def _resume(known: argparse.Namespace, args: Sequence[str]) -> TrainCommand:
    """Return the command line of a run that goes on."""
    try:
        config = read_config(known.resume)
        if "preset" not in config:
            raise ValueError(f"resume must be a run of train.py, got {known.resume}")
        if known.preset != "digits" or known.fleet is not None:
            raise ValueError("preset and fleet must not be given to go on with a run")
        if config.get("own"):
            raise ValueError(
                "resume must be a run of names alone, which fa.train goes on with in "
                f"Python; it has objects of its own: {', '.join(config['own'])}"
            )
        default = from_json(config["settings"], run_dir=Path(known.resume))
    except ValueError as error:
        fail(error)
    settings = parse_settings(__doc__ or "", args=args, default=default)
    extras = _list_extras(known)
    return TrainCommand(config["preset"], config["fleet"], *extras, settings)
