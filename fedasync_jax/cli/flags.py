"""Flags from records of settings, and errors in one line."""

import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import os
import re
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import docstring_parser
import tyro

from fedasync_jax.experiment.settings import PARTS, Settings
from fedasync_jax.parts.bounds import Explained, OneOf, find_allowed
from fedasync_jax.parts.settings import PartSettings

Flags = TypeVar("Flags")

_LONGEST = 280  # characters of an error, so that the line has less than 300
# What tyro says, and what is said here; other messages stay as they are.
_SAYINGS = (
    (
        r"invalid choice (?P<value>.*) for argument '--(?P<name>\S*)'\. "
        r"Expected one of \((?P<names>.*?),?\)",
        "{name} must be one of {names}, got {value}",
    ),
    (
        r"Error parsing --(?P<name>\S+): invalid literal for int.*?: (?P<value>.*)",
        "{name} must be a whole number, got {value}",
    ),
    (
        r"Error parsing --(?P<name>\S+): could not convert .* float: (?P<value>.*)",
        "{name} must be a number, got {value}",
    ),
    (
        r"Error parsing --(?P<name>\S+): Could not find valid .*: \[(?P<value>.*)\]",
        "{name} must be as --help shows it, got {value}",
    ),
    (
        r"Error parsing --(?P<name>\S+): no type matching (?P<kinds>.*) could be "
        r"instantiated from \[(?P<value>.*?)\]\. .*",
        "{name} must be {kinds}, got {value}",
    ),
    (
        r"Missing value for argument \W*--(?P<name>[\w-]+).*",
        "{name} must have a value, got none",
    ),
    (
        r"Unrecognized options: (?P<value>.*)",
        "flags must be those that --help lists, got {value}",
    ),
)
_PLAIN = (  # kinds of values
    ("{None}", "None"),
    ("{[INT [INT ...]]}", "whole numbers"),
    ("|", " or "),
    ("INT", "a whole number"),
    ("FLOAT", "a number"),
)


def parse_settings(*, args: Sequence[str], default: Settings) -> Settings:
    """Return the settings of a command line; a bad one ends the process.

    Flags are flat; what may be chosen is read from the registries. Settings that are
    not given follow those that are (see ``Settings.replace``).

    Args:
      args: the command line.
      default: values of flags that are not given.
    """
    parts = {part: make_flags(record) for part, record in PARTS.items()}
    values = {p: of(**getattr(default, p).flat()) for p, of in parts.items()}
    fields = [(p, of, dataclasses.field(default=values[p])) for p, of in parts.items()]
    flags = dataclasses.make_dataclass("Flags", fields, frozen=True, kw_only=True)
    parsed = parse_flags(flags, "", args=args)
    named = {k: v for part in parts for k, v in vars(getattr(parsed, part)).items()}
    given = given_names(args)
    try:
        return default.replace(**{k: v for k, v in named.items() if k in given})
    except ValueError as error:
        fail(error)


def given_names(args: Sequence[str]) -> set[str]:
    """Return the names of the flags among the words of a command line."""
    flags = (word.split("=")[0] for word in args if word.startswith("--"))
    return {flag[2:].replace("-", "_") for flag in flags}


def parse_flags(
    flags: Callable[..., Flags],
    description: str,
    *,
    args: Sequence[str] | None = None,
) -> Flags:
    """Return the command line as ``flags``; a bad one ends the process.

    tyro draws a box around an error; here an error is one line.

    Args:
      flags: a dataclass; it may raise ValueError when it is made.
      description: first words of ``--help``.
      args: the command line; default: that of the process.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                flags,
                description=description,
                args=args,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except ValueError as error:  # of ``flags``, which not every tyro tells itself
        fail(error)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(_read_box(said.getvalue()))


def make_flags(record: type[PartSettings]) -> type:
    """Return a dataclass of all settings of a part, for tyro."""
    choices = record.choices()
    fields = []
    for name, hint in record.hints().items():
        shown = tyro.conf.arg(help=explain(record, name))
        is_own = name not in choices
        default = getattr(record, name) if is_own else choices[name].default
        field = dataclasses.field(default=default)
        fields.append((name, Annotated[_for_tyro(hint), shown], field))
    made = dataclasses.make_dataclass(record.__name__, fields, frozen=True)
    made.__doc__ = (inspect.getdoc(record) or "").split("\n")[0]
    return made


def explain(record: type[PartSettings], name: str) -> str:
    """Return what a setting is, from the docstring beside it."""
    setting = record.choices().get(name)
    if setting is None:
        notes = find_allowed(record.hints()[name])
        more = [note.explain() for note in notes if isinstance(note, Explained)]
        return " ".join([_read_docstring(record)[name], *more])
    text = _read_docstring(setting.factory).get(setting.argument, "")
    sentence = f"{text[:1].upper()}{text[1:].rstrip('.')}."
    return f"{sentence} Only for {' or '.join(setting.parts)}."


@functools.cache
def _read_docstring(documented: Any) -> dict[str, str]:
    """Return the descriptions of arguments or attributes, each on one line."""
    parsed = docstring_parser.parse(inspect.getdoc(documented) or "")
    return {p.arg_name: " ".join((p.description or "").split()) for p in parsed.params}


def _for_tyro(hint: Any) -> Any:
    """Return an annotation whose names are choices that the parser checks."""
    if typing.get_origin(hint) is Annotated:
        for note in hint.__metadata__:
            if isinstance(note, OneOf) and not note.families:
                return Literal[note.names]
        return _for_tyro(hint.__origin__)
    inner = typing.get_args(hint)
    if not inner:
        return hint
    changed = tuple(arg if arg is Ellipsis else _for_tyro(arg) for arg in inner)
    if typing.get_origin(hint) is typing.get_origin(tuple[int, ...]):
        return tuple[changed]
    if typing.get_origin(hint) is Sequence:
        return tuple[changed[0], ...]
    return functools.reduce(lambda a, b: a | b, changed)


def name_program() -> str:
    """Return how the process was called, for hints: ``fedasync train``."""
    called = sys.argv[0]
    if called.startswith("fedasync "):
        return called
    return f"python {os.path.join('scripts', os.path.basename(called))}"


def fail(error: object) -> NoReturn:
    """End the process with exit code 2 and one line, see ``fit_line``."""
    words = re.sub(r"^\[Errno \d+\] ", "", str(error))
    sys.stderr.write(f"error: {fit_line(words)}\n")
    sys.exit(2)


def fit_line(text: str) -> str:
    """Return a text in one line, of ``_LONGEST`` characters at most.

    Long words, as what somebody typed may be, give way first, each in its middle. Then
    the middle of the line does: it says at its beginning what is wrong and ends with
    what was found.

    >>> fit_line(" alpha must be in (0, 1],  got 2 ")
    'alpha must be in (0, 1], got 2'
    >>> len(fit_line("x" * 999))
    83
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) <= _LONGEST:
        return line
    line = " ".join(_cut_middle(word, 83) for word in line.split())
    return _cut_middle(line, _LONGEST)


def _cut_middle(text: str, size: int) -> str:
    half = (size - 3) // 2
    return text if len(text) <= size else f"{text[:half]}...{text[-half:]}"


def _read_box(box: str) -> str:
    """Return the first message of tyro's box as one line.

    The box has a title, and a rule behind its first message; where characters are ASCII
    alone, one before it, too.
    """
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    rest = itertools.dropwhile(_is_rule, lines[1:])
    message = " ".join(itertools.takewhile(lambda line: not _is_rule(line), rest))
    message = re.sub(r"^Error parsing (?!--)\S+: ", "", message).strip()
    for pattern, saying in _SAYINGS:
        if found := re.match(pattern, message):
            return saying.format(**_make_plain(found.groupdict()))
    return message or box


def _make_plain(parts: dict[str, str]) -> dict[str, str]:
    """Return what tyro names, as the rest of the project writes it."""
    name, names, kinds = (parts.get(part, "") for part in ("name", "names", "kinds"))
    for word, plain in _PLAIN:
        kinds = kinds.replace(word, plain)
    names = names.replace("'", "")
    return {**parts, "name": name.replace("-", "_"), "names": names, "kinds": kinds}


def _is_rule(line: str) -> bool:
    return re.fullmatch("[─-]+", line) is not None
