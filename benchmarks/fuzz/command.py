"""Damage command lines, data files and run folders at random, and see what comes of it.

    python scripts/fuzz.py --cases 500 --seed 0

Every case must end in one short line that says what is wrong (exit code 2), or work: a
run that goes on must then have the results of one that nobody disturbed. A traceback, a
command that never ends, a user's file or an earlier result that is lost and results
that are silently others are faults; each is printed with its number. ``--only NUMBER``
with the same seed does it again and prints everything that it said. Nothing outside of
a temporary folder is touched.
"""

import collections
import dataclasses
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.fuzz import preload
from benchmarks.fuzz.base import Base, make_base
from benchmarks.fuzz.case import BAD, GOOD, Case, Hashes, Outcome, hash_files, judge
from benchmarks.fuzz.child import Child, Ended
from benchmarks.fuzz.command_lines import draw_command_line
from benchmarks.fuzz.data_files import draw_data_file
from benchmarks.fuzz.run_folders import draw_run_folder
from fedasync_jax.cli.flags import parse_flags

_KINDS = {
    "command line": draw_command_line,
    "data file": draw_data_file,
    "run folder": draw_run_folder,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """How many cases, and which."""

    cases: int = 500
    """Cases."""
    seed: int = 0
    """Seed of everything."""
    only: int | None = None
    """If set, this case alone, with all that it says."""
    seconds: float = 60.0
    """A command that takes longer hangs."""
    processes: int = 2
    """Commands at a time."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("cases", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("seed", "only"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not self.seconds > 0:
            raise ValueError(f"seconds must be > 0, got {self.seconds}")


class Tried(NamedTuple):
    """A case that has ended."""

    number: int
    kind: str
    case: Case
    ended: Ended
    outcome: Outcome


def main() -> None:
    """Damage, run, judge; exit code 1 if there is a fault."""
    flags = parse_flags(Flags, __doc__ or "")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        root = Path(scratch).resolve()
        _compile_little(root / "compiled")
        base = make_base(root)
        tried = list(_try_all(base, root, flags))
    _print_table(tried)
    sys.exit(any(one.outcome.word in BAD for one in tried))


def _compile_little(folder: Path) -> None:
    """Let the children compile in a hurry, and share what they compiled."""
    fast = "--xla_backend_optimization_level=0"  # programs are run once
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fast}".strip()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


class _Going(NamedTuple):
    """A case on its way."""

    number: int
    kind: str
    case: Case
    child: Child
    before: Hashes


def _try_all(base: Base, root: Path, flags: Flags) -> Iterator[Tried]:
    """Yield cases as they end, and print the faults."""
    left = iter([flags.only] if flags.only is not None else range(flags.cases))
    going: list[_Going] = []
    try:
        while True:
            while len(going) < flags.processes:
                number = next(left, None)
                if number is None:
                    break
                going.append(_start(number, base, root, flags))
            if not going:
                return
            for one in list(going):
                ended = one.child.poll()
                if ended is not None:
                    going.remove(one)
                    yield _end(one, ended, root, flags)
            time.sleep(0.01)
    finally:
        for one in going:
            one.child.kill()


def _start(number: int, base: Base, root: Path, flags: Flags) -> _Going:
    rng = np.random.default_rng([flags.seed, number])
    kind = list(_KINDS)[number % len(_KINDS)]
    folder = root / f"case-{number}"
    folder.mkdir()
    case = _KINDS[kind](rng, base, folder)
    before = hash_files(folder)
    work = preload.make_work(case.words, base)
    child = Child(work, folder, root / "logs" / f"case-{number}", flags.seconds)
    return _Going(number, kind, case, child, before)


def _end(one: _Going, ended: Ended, root: Path, flags: Flags) -> Tried:
    folder = root / f"case-{one.number}"
    outcome = judge(one.case, ended, one.before, hash_files(folder))
    shutil.rmtree(folder)
    tried = Tried(one.number, one.kind, one.case, ended, outcome)
    if flags.only is not None:
        print(
            f"exit code {ended.code}, {ended.seconds:.1f} s\n{ended.out}\n{ended.err}"
        )
    if flags.only is not None or outcome.word in BAD:
        _print_fault(tried, flags)
    return tried


def _print_fault(tried: Tried, flags: Flags) -> None:
    words = [word if len(word) < 60 else f"{word[:57]}..." for word in tried.case.words]
    command = shlex.join(["fedasync", *words]).encode("utf-8", "replace").decode()
    line = tried.outcome.line.strip()[:400].encode("utf-8", "replace").decode()
    print(
        f"{tried.outcome.word}: --seed {flags.seed} --only {tried.number} "
        f"({tried.kind}, {tried.ended.seconds:.1f} s)\n"
        f"  damage: {tried.case.damage.encode('utf-8', 'replace').decode()}\n"
        f"  {command}\n  {line}",
        flush=True,
    )


def _print_table(tried: list[Tried]) -> None:
    words = [*GOOD, *BAD]
    print(f"{'':<14}{'tried':>8}" + "".join(f"{word:>12}" for word in words))
    for kind in _KINDS:
        counts = collections.Counter(
            one.outcome.word for one in tried if one.kind == kind
        )
        cells = "".join(f"{counts[word]:>12}" for word in words)
        print(f"{kind:<14}{counts.total():>8}{cells}")


if __name__ == "__main__":
    main()
