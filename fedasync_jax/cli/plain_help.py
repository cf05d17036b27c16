"""Help of commands with a few flags, from the record that reads them."""

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
import typing
from typing import Any

import tyro

from fedasync_jax.cli.flag_list import Flag, Group, describe_type, show_default
from fedasync_jax.cli.help import format_help


def show_help(record: type, usage: str, description: str) -> None:
    """Print the help and end the process, if the command line asks for it.

    Args:
      record: a dataclass with a docstring below every field.
      usage: the command and its positional arguments.
      description: what the command does, in paragraphs; indented ones are examples.
    """
    if not {"-h", "--help"} & set(sys.argv[1:]):
        return
    group = Group("options", "What the command takes.", list_flags_of(record))
    print(
        format_help(f"{usage} [OPTIONS]", description.strip(), [group], show_all=True)
    )
    raise SystemExit(0)


def list_flags_of(record: type) -> list[Flag]:
    """Return the flags of a record, without its positional arguments."""
    hints = typing.get_type_hints(record, include_extras=True)
    texts = read_field_texts(record)
    fields = {field.name: field for field in dataclasses.fields(record)}
    return [
        _make_flag(fields[name], hints[name], text)
        for name, text in texts.items()
        if tyro.conf.Positional not in getattr(hints[name], "__metadata__", ())
    ]


def read_field_texts(record: type) -> dict[str, str]:
    """Return the docstring below every field, each on one line; those of bases last."""
    texts: dict[str, str] = {}
    for part in (p for p in record.__mro__ if dataclasses.is_dataclass(p)):
        own = _read_own_texts(part)
        texts |= {name: own[name] for name in own if name not in texts}
    return texts


def _read_own_texts(record: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(record)))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _make_flag(field: dataclasses.Field[Any], hint: Any, text: str) -> Flag:
    if hint is bool:
        return Flag(f"[no_]{field.name}" if field.default else field.name, "", text)
    return Flag(field.name, describe_type(hint), text, show_default(field.default))
