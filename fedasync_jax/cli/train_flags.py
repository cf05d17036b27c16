"""The command line of ``fedasync train``."""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from fedasync_jax.cli.flag_list import TRAIN_FLAGS, spell_flag
from fedasync_jax.cli.flags import fail, given_names
from fedasync_jax.cli.own_flags import Start, parse_rest, read_start
from fedasync_jax.cli.summary import print_summaries
from fedasync_jax.cli.unused import find_note
from fedasync_jax.engine.processes import find_processes
from fedasync_jax.experiment.presets import from_json
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.storage.config import read_config

_DESCRIPTION = """\
Compare FedAsync with its baselines on one data set and one fleet of clients. Without a
flag: handwritten digits, 100 clients, slow and fast ones. The results go into a new
folder under runs/."""

_NOT_IN_RESUME = ("preset", "fleet", "config")  # a run goes on with its own
_NOT_IN_SUMMARY = (*_NOT_IN_RESUME, "resume", "check", "log_to", "tensorboard")


class TrainCommand(NamedTuple):
    """The command line.

    Attributes:
      preset: name of the settings it starts from.
      fleet: name of the devices that replace those of the preset; None: none.
      check: whether to test every schedule.
      log_to: names of loggers.
      load: files and modules with parts of the user's own.
      compile_cache: whether to keep compiled programs on the disk.
      settings: of the experiment.
      note: what was given and is not read; empty: nothing.
    """

    preset: str
    fleet: str | None
    check: bool
    log_to: Sequence[str]
    load: Sequence[str]
    compile_cache: bool
    settings: Settings
    note: str = ""


def parse_train(args: Sequence[str]) -> TrainCommand:
    """Return the command line."""
    start = read_start("train", _DESCRIPTION, TRAIN_FLAGS, args)
    if start.own.summary is not None:
        _print_summary(start)
    try:
        if start.own.resume is not None:
            start, default = _go_on(start)
        else:
            default = start.make_default()
    except ValueError as error:
        fail(error)
    settings = parse_rest(start, default)
    is_given = start.own.fleet is not None
    if is_given and settings.schedule.schedule == "sampled":
        fail(
            f"fleet must not be given for schedule sampled, which has no clock, got "
            f"{start.fleet} (--schedule immediate has one)"
        )
    return TrainCommand(
        preset=start.preset,
        fleet=start.fleet,
        check=start.own.check,
        log_to=[*(start.own.log_to or []), *["tensorboard"] * start.own.tensorboard],
        load=start.own.load or [],
        compile_cache=not start.own.no_compile_cache,
        settings=settings,
        note=find_note(start, [settings]),
    )


def _print_summary(start: Start) -> NoReturn:
    """Say what a run is, and end the process."""
    given = [
        spell_flag(name)
        for name in _NOT_IN_SUMMARY
        if getattr(start.own, name) not in (None, False)
    ]
    if words := [*given, *start.rest]:
        fail(f"summary must stand alone, got {' '.join(words)}")
    print_summaries([Path(start.own.summary)])
    sys.exit(0)


def _go_on(start: Start) -> tuple[Start, Settings]:
    """Return the start of a run that goes on, and its settings.

    Raises:
      ValueError: if it is no run that can go on by names alone.
    """
    given = {name: getattr(start.own, name) for name in _NOT_IN_RESUME}
    for name, value in {**given, "run_dir": _find_word(start, "run_dir")}.items():
        if value is not None:
            raise ValueError(
                f"{name} must not be given together with resume, got {value}"
            )
    run_dir = Path(start.own.resume)
    config = find_processes().lead(
        lambda: read_config(run_dir, name="resume", kind="a run folder")
    )
    if "preset" not in config:
        raise ValueError(f"resume must be a run folder, got {start.own.resume}")
    if config.get("own"):
        raise ValueError(
            "resume must be a run without objects of your own, which only fa.train in "
            f"Python can continue, got {', '.join(config['own'])}"
        )
    settings = from_json(config["settings"], run_dir=run_dir)
    return start._replace(preset=config["preset"], fleet=config["fleet"]), settings


def _find_word(start: Start, name: str) -> str | None:
    """Return what stands behind the flag of a setting; None: it is not given."""
    for word, following in itertools.zip_longest(start.rest, start.rest[1:]):
        if name in given_names([word]):
            return word.partition("=")[2] or following or "none"
    return None
