"""Help of commands with many flags: in groups, the most used first, 80 columns."""

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from fedasync_jax.cli.flag_list import Flag, Group

_WIDTH, _LEFT = 80, 26


def format_help(
    usage: str, description: str, groups: Sequence[Group], *, show_all: bool
) -> str:
    """Return the help.

    Args:
      usage: the first line, without "usage: ".
      description: what the command does, in paragraphs; indented ones stay as they
        are.
      groups: all flags.
      show_all: whether to show the rarer ones, too.
    """
    paragraphs = [
        text if text.startswith("    ") else textwrap.fill(text, _WIDTH)
        for text in description.split("\n\n")
    ]
    blocks = [f"usage: {usage}", *paragraphs]
    num_hidden = 0
    for group in groups:
        shown = [flag for flag in group.flags if show_all or flag.is_common]
        num_hidden += len(group.flags) - len(shown)
        lines = [line for flag in shown for line in _format_flag(flag)]
        blocks.append("\n".join([f"{group.title}: {group.description}", *lines]))
    program = usage.split(" [")[0]
    if num_hidden:
        blocks.append(f"{num_hidden} more settings: {program} --help-all")
    return "\n\n".join(blocks)


def format_names(title: str, names: Mapping[str, str]) -> str:
    """Return a list of names and what they are."""
    rows = (_format_row(f"  {name}", about) for name, about in names.items())
    return "\n".join([f"{title}:", *itertools.chain(*rows)])


def _format_flag(flag: Flag) -> Iterator[str]:
    text = flag.help
    if flag.choices:
        text += f" Choices: {', '.join(flag.choices)}."
    if flag.default:
        text += f" (default: {flag.default})"
    return _format_row(f"  {flag.word} {flag.metavar}".rstrip(), text)


def _format_row(left: str, text: str) -> Iterator[str]:
    """Yield lines with a text beside a word, or below it if it is long."""
    lines = textwrap.wrap(
        text, _WIDTH - _LEFT, break_long_words=False, break_on_hyphens=False
    )
    if len(left) + 2 > _LEFT:
        yield left
    else:
        yield f"{left:<{_LEFT}}{lines.pop(0)}"
    yield from (f"{' ' * _LEFT}{line}" for line in lines)
