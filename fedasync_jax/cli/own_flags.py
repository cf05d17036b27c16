"""Flags that are read before the settings: where these start from, and what is done."""

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from fedasync_jax.cli.distributed import join_processes
from fedasync_jax.cli.flag_list import Flag, list_groups, spell_flag
from fedasync_jax.cli.flags import fail, given_names, parse_settings
from fedasync_jax.cli.help import format_help, format_names
from fedasync_jax.cli.own_parts import load_parts
from fedasync_jax.experiment.presets import FLEETS, PRESETS, make_settings
from fedasync_jax.experiment.settings import Settings, name_parts
from fedasync_jax.parts.nearest import name_nearest

_STARTS = ("preset", "fleet")
_MAY_BE_BARE = (*_STARTS, "resume", "summary")  # what they may be is told below


class Start(NamedTuple):
    """What a command line starts from.

    Attributes:
      own: values of the command's own flags.
      rest: the words of the settings.
      preset: name of the settings.
      fleet: name of the devices that replace those of the preset; None: none.
      config: settings of a file, by name.
    """

    own: argparse.Namespace
    rest: Sequence[str]
    preset: str
    fleet: str | None
    config: Mapping[str, Any]

    def make_default(self) -> Settings:
        """Return the settings without those of the command line.

        A rho of the preset gives way to a gamma_rho of the user's, not one of the
        user's. Beside a fleet, the schedule of a preset, which may have no clock, gives
        way to one of the user's.

        Raises:
          ValueError: if a name is unknown or a setting out of range.
        """
        gives_way = "gamma_rho" in given_names(self.rest) and "rho" not in self.config
        overrides = {**self.config, **({"rho": None} if gives_way else {})}
        if self.fleet is not None and "schedule" in given_names(self.rest):
            overrides["schedule"] = "immediate"
        return make_settings(self.preset, self.fleet, **overrides)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End the process."""
        fail(message)


def read_start(
    name: str, description: str, own: Sequence[Flag], args: Sequence[str]
) -> Start:
    """Return what a command line starts from, or print help and end the process.

    Args:
      name: of the command.
      description: first words of its help.
      own: its flags that are no settings.
      args: the command line.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for flag in (*own, Flag("help", "", ""), Flag("help_all", "", "")):
        words = ["-h", "--help"] if flag.name == "help" else [flag.word]
        if not flag.metavar:
            parser.add_argument(*words, action="store_true")
        elif flag.takes_many:
            parser.add_argument(*words, nargs="*")
        elif flag.name in _MAY_BE_BARE:
            parser.add_argument(*words, nargs="?", const="")
        else:
            parser.add_argument(*words)
    known, rest = parser.parse_known_args(args)
    if known.version:
        print(f"fedasync-jax {version('fedasync-jax')}")
        raise SystemExit(0)
    if not (known.help or known.help_all or getattr(known, "summary", None)):
        join_processes(known)
    load_parts(known.load or [])
    if known.help or known.help_all:
        _print_help(name, description, own, show_all=known.help_all)
    refuse_unknown(rest, own)
    try:
        config = {} if known.config is None else read_settings_file(known.config)
    except ValueError as error:
        fail(error)
    preset, fleet = (
        getattr(known, one) if getattr(known, one) is not None else config.get(one)
        for one in _STARTS
    )
    settings = {k: v for k, v in config.items() if k not in _STARTS}
    return Start(known, rest, "digits" if preset is None else preset, fleet, settings)


def parse_rest(start: Start, default: Settings) -> Settings:
    """Return the settings of a command line; a bad one ends the process."""
    return parse_settings(args=start.rest, default=default)


def read_settings_file(path: str) -> dict[str, Any]:
    """Read settings by their names, and ``preset`` and ``fleet``, from a file.

    Args:
      path: ``.toml``, or JSON; the ``config.json`` of a run gives its settings.

    Raises:
      ValueError: if it cannot be read, is no such file, or a name is unknown.
    """
    allowed = "config must be a file of JSON or, named .toml, of TOML with settings"
    try:
        content = Path(path).read_bytes()
        loads = tomllib.loads if path.lower().endswith(".toml") else _load_json
        found = loads(content.decode())
    except OSError as error:
        raise ValueError(f"{allowed}, got {path!r} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{allowed}, got {path} ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{allowed}, got {path} with a {type(found).__name__}")
    if isinstance(found.get("settings"), dict):  # of a run
        starts = {k: found[k] for k in _STARTS if found.get(k) is not None}
        found = {**starts, **found["settings"]}
        found.pop("run_dir", None)
    names = [str(name).replace("-", "_") for name in found]
    if twice := _find_twice(names):  # as num-updates and num_updates are one
        raise ValueError(f"config must name {twice} once, got it twice in {path}")
    settings = dict(zip(names, found.values(), strict=True))
    known = [*_STARTS, *name_parts()]
    for name in settings:
        if name not in known:
            raise ValueError(
                f"config must have names of settings, got {name!r} in {path}"
                f"{name_nearest(name, known)}"
            )
    return settings


def _load_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_make_object)


def _make_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, in which no name may stand twice."""
    if twice := _find_twice([name for name, _ in pairs]):
        raise ValueError(f"{twice} is in it twice")
    return dict(pairs)


def _find_twice(names: Sequence[str]) -> str | None:
    """Return the first name that stands there again; None: there is none."""
    return next((name for name in names if names.count(name) > 1), None)


def refuse_unknown(args: Sequence[str], own: Sequence[Flag]) -> None:
    """End the process if a flag is none, with the nearest ones."""
    known = [*name_parts(), *(flag.name for flag in own)]
    for word in args:
        flag = word.split("=")[0]
        name = flag[2:].replace("-", "_")
        if flag.startswith("--") and name and name not in known:
            near = name_nearest(name, known, spell_flag)
            fail(f"flags must be those that --help-all lists, got {flag}{near}")


def _print_help(
    name: str, description: str, own: Sequence[Flag], *, show_all: bool
) -> NoReturn:
    usage = f"fedasync {name} [OPTIONS]"
    groups = list_groups(own, Settings())
    print(format_help(usage, description, groups, show_all=show_all))
    if show_all:
        for title, presets in (("presets", PRESETS), ("fleets", FLEETS)):
            names = {preset: about for preset, (about, _) in presets.items()}
            print(f"\n{format_names(title, names)}")
    raise SystemExit(0)
