"""A case, and how its outcome is classed."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.fuzz.child import Ended

GOOD = ("clear line", "worked")
BAD = ("unclear", "traceback", "hang", "lost", "wrong")

_LONGEST = 300  # characters of a line that tells what is wrong
_REFUSED = 2  # exit code

Hashes = Mapping[str, str]


def _nothing(*_: object) -> str:
    return ""


class Case(NamedTuple):
    """What was damaged, what is done with it, and what must hold then.

    Attributes:
      words: the command line, without ``fedasync``.
      damage: what was done, in words.
      is_large: whether so much is asked for that it may work for ever, once it trains.
      may_change: whether the command may change a file that was there.
      find_loss: given exit code, returns what of value is gone; "": nothing.
      find_error: asked after exit code 0, returns what is not as it must be; "": all
        is.
    """

    words: tuple[str, ...]
    damage: str
    is_large: bool = False
    may_change: Callable[[str], bool] = lambda path: False
    find_loss: Callable[[int], str] = _nothing
    find_error: Callable[[], str] = _nothing


class Outcome(NamedTuple):
    """What became of a case: a word of ``GOOD`` or ``BAD``, and a line about it."""

    word: str
    line: str


def judge(case: Case, ended: Ended, before: Hashes, after: Hashes) -> Outcome:
    """Return the outcome of a case.

    Args:
      case: the case.
      ended: how its command ended.
      before: ``hash_files`` of its folder before the command.
      after: and after it.
    """
    changed = [
        path
        for path, what in before.items()
        if after.get(path) != what and not case.may_change(path)
    ]
    gone = f"changed or removed: {', '.join(changed[:3])}" if changed else ""
    gone = gone or case.find_loss(ended.code)
    if gone:
        return Outcome("lost", gone)
    outcome = _judge_end(ended, is_large=case.is_large)
    if outcome.word == "worked" and ended.code == 0:
        error = case.find_error()
        if error:
            return Outcome("wrong", error)
    return outcome


def hash_files(folder: Path) -> dict[str, str]:
    """Return what every file below a folder is, by its path in the folder."""
    found = {}
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in [*names, *links]:
            path = Path(parent) / name
            found[str(path.relative_to(folder))] = _hash(path)
    return found


def _hash(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if not path.is_file():
        return "special file"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _judge_end(ended: Ended, *, is_large: bool) -> Outcome:
    said = f"{ended.out}\n{ended.err}"
    last = _last_line(ended.err) or _last_line(ended.out)
    places = re.findall(r'File "[^"]*/(fedasync_jax/[^"]*", line \d+)', said)
    if ended.code == 1 and places:
        last = f"{last} ({places[-1].replace(chr(34), '')})"
    if ended.timed_out:
        trains = is_large and "run folder: " in ended.out
        return Outcome("worked" if trains else "hang", last)
    if ended.code < 0:
        return Outcome("traceback", f"died of signal {-ended.code}: {last}")
    if "Traceback (most recent call last)" in said:
        return Outcome("traceback", last)
    if ended.code == _REFUSED:
        lines = ended.err.splitlines()
        is_clear = len(lines) == 1 and re.match(r"error: \S", lines[0]) is not None
        is_short = is_clear and len(lines[0]) <= _LONGEST
        return Outcome("clear line" if is_short else "unclear", ended.err[-1000:])
    if ended.err.strip():
        return Outcome("unclear", " | ".join(ended.err.splitlines())[-1000:])
    return Outcome("worked", last)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
