"""The command ``fedasync``: one word for each thing that can be done."""

import difflib
import importlib
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from fedasync_jax.cli.endings import clear_endings
from fedasync_jax.cli.flags import fail


class Command(NamedTuple):
    """What a word stands for.

    Attributes:
      module: has a function ``main`` that reads ``sys.argv``.
      description: one line.
      in_checkout: whether the module is in a checkout only, not in the wheel.
    """

    module: str
    description: str
    in_checkout: bool = False


COMMANDS = {
    "train": Command(
        "fedasync_jax.cli.train", "compare methods on one data set and one fleet"
    ),
    "sweep": Command(
        "fedasync_jax.cli.sweep", "run a grid of settings with several seeds"
    ),
    "leaderboard": Command(
        "fedasync_jax.cli.leaderboard", "compare mixing rules, including your own"
    ),
    "plot": Command("fedasync_jax.cli.plot", "draw the pictures of runs or sweeps"),
    "report": Command(
        "fedasync_jax.cli.report", "write a page of runs: one HTML file to mail"
    ),
    "summary": Command(
        "fedasync_jax.cli.summary", "describe runs and sweeps, and their progress"
    ),
    "benchmark": Command(
        "benchmarks.command", "measure the speed of this machine", in_checkout=True
    ),
    "reproduce": Command(
        "reproduction.command", "reproduce the paper's figures", in_checkout=True
    ),
    "completion": Command(
        "fedasync_jax.cli.completion", "print the completion script of a shell"
    ),
}


@clear_endings()
def main() -> None:
    """Run ``fedasync COMMAND ...``."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_describe())
        return
    if name == "--version":
        print(f"fedasync-jax {version('fedasync-jax')}")
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        fail(f"command must be one of {', '.join(COMMANDS)}, got {name!r}{hint}")
    sys.argv = [f"fedasync {name}", *rest]
    command = COMMANDS[name]
    if command.in_checkout:
        _enter_checkout(name)
    importlib.import_module(command.module).main()


def _enter_checkout(name: str) -> None:
    """Let modules that are not installed be found."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "scripts" / f"{name}.py").is_file():
        fail(
            f"{name} must be run from a checkout of the project (pip install -e . "
            f"there), got the installed package in {root}"
        )
    sys.path.insert(0, str(root))


def _describe() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        f"  {name:<{width}}  {command.description}"
        + (" (in a checkout)" if command.in_checkout else "")
        for name, command in COMMANDS.items()
    ]
    head = ["usage: fedasync COMMAND [OPTIONS]", ""]
    tail = ["", "fedasync COMMAND --help explains a command; fedasync --version."]
    return "\n".join([*head, *lines, *tail])
