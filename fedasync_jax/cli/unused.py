"""Settings that were given and that no run reads: a note, and no grid of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from fedasync_jax.cli.flags import given_names
from fedasync_jax.cli.own_flags import Start
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.experiment.used import describe_unused, find_unused


def check_axes(axes: Mapping[str, Sequence[Any]], points: Sequence[Settings]) -> None:
    """Refuse a grid over settings that no run reads: its rows would be alike.

    Raises:
      ValueError: in one line that names them, and what would read them.
    """
    if unused := find_unused(axes, points):
        raise ValueError(
            f"grid must have settings that a run reads, got {describe_unused(unused)}"
        )


def find_note(start: Start, points: Iterable[Settings]) -> str:
    """Return a line on what was given and is not read; empty: all of it is.

    Args:
      start: the command line. Of its file, which may be the config of a run with all
        settings, those count that differ from the preset.
      points: settings of the runs.
    """
    given = given_names(start.rest)
    if start.config:
        usual = make_settings(start.preset, start.fleet).to_json()
        given |= {
            name
            for name, value in start.config.items()
            if _as_list(value) != _as_list(usual[name])
        }
    unused = find_unused(sorted(given), points)
    return f"not read: {describe_unused(unused)}" if unused else ""


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def print_note(console: Console, note: str) -> None:
    """Print a line that the user should read; nothing if it is empty."""
    if note:
        console.print(
            f"note: {note}",
            style="yellow",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
