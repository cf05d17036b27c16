"""Run folders at random: damaged, mixed up, full of what others put there."""

import functools
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.fuzz.base import NUM_UPDATES, Base, sweep_words
from benchmarks.fuzz.case import Case, hash_files
from benchmarks.fuzz.damage import damage_bytes, damage_json, damage_kind

_NOTES = "what a user wrote\n" * 5
_RESULTS = re.compile(r"metrics\.jsonl|[^/]+/(model/model\.safetensors|\w+\.npz)")
_REWRITTEN = re.compile(
    r"config\.json|metrics\.sha256|\.lock|summary\.json|plots/.*|[^/]+/checkpoints/.*"
    r"|[^/]+/model/orbax/.*|\.\w+\.json"
)


class _Action(NamedTuple):
    """What is done with a damaged run.

    Attributes:
      words: the command line.
      source: the run that is damaged.
      wanted: the run that must come out of it; None: nothing is written but pictures.
    """

    words: tuple[str, ...]
    source: Path
    wanted: Path | None


def draw_run_folder(rng: np.random.Generator, base: Base, folder: Path) -> Case:
    """Return a case in which a copy of a run is damaged and then used."""
    action = _draw_action(rng, base)
    path = folder / "run"
    shutil.copytree(action.source, path, symlinks=True)
    inner = path / "alpha-0.6" / "seed-0" if action.words[0] == "sweep" else path
    good = hash_files(inner)
    foreign: set[str] = set()
    damages = [
        _damage(rng, base, inner, foreign) for _ in range(int(rng.choice([1, 1, 2])))
    ]
    keeper = _Keeper(inner, good, hash_files(inner), foreign, action.wanted)
    find_error = keeper.find_error if action.wanted else lambda: ""
    if action.words[0] == "sweep":
        find_error = functools.partial(_compare_sweeps, keeper, path, base.swept)
    prefix = f"{inner.relative_to(folder)}/"
    return Case(
        words=action.words,
        damage="; ".join(damages),
        may_change=functools.partial(_may_change, keeper, prefix),
        find_loss=keeper.find_loss if action.wanted else lambda code: "",
        find_error=find_error,
    )


def _draw_action(rng: np.random.Generator, base: Base) -> _Action:
    source = [base.finished, base.stopped][int(rng.integers(2))]
    more = ("--num-updates", str(NUM_UPDATES + 4))
    method = str(rng.choice(["fedasync-polynomial-0-5", "fedavg"]))
    actions = {
        "resume": (_Action(("train", "--resume", "run"), source, base.finished), 0.45),
        "grow": (_Action(("train", "--resume", "run", *more), source, base.grown), 0.1),
        "sweep": (
            _Action(
                sweep_words(base.data, Path("run")),
                base.swept,
                base.swept / "alpha-0.6" / "seed-0",
            ),
            0.12,
        ),
        "summary": (_Action(("train", "--summary", "run"), source, None), 0.1),
        "plot": (_Action(("plot", "run"), source, None), 0.13),
        "load": (_Action(("load", f"run/{method}"), base.finished, None), 0.1),
    }
    name = rng.choice(list(actions), p=[share for _, share in actions.values()])
    return actions[str(name)][0]


# Damage


def _damage(rng: np.random.Generator, base: Base, run: Path, foreign: set[str]) -> str:
    """Do one thing to a run; add to ``foreign`` what a user put there."""
    kinds: Mapping[str, tuple[Callable[[], str], float]] = {
        "bytes": (lambda: damage_bytes(rng, _pick_file(rng, run)), 0.3),
        "json": (lambda: damage_json(rng, _pick_json(rng, run)), 0.32),
        "kind": (lambda: damage_kind(rng, _pick_any(rng, run)), 0.14),
        "swap": (lambda: _swap(rng, base, run), 0.08),
        "foreign": (lambda: _add_foreign(rng, run, foreign), 0.08),
        "link": (lambda: _link(rng, run, foreign), 0.08),
    }
    name = str(rng.choice(list(kinds), p=[share for _, share in kinds.values()]))
    try:
        return f"{name} {kinds[name][0]()}"
    except (OSError, ValueError, RecursionError, TypeError) as error:
        return f"{name} could not be ({error})"[:80]  # after another damage


def _list_files(run: Path) -> list[Path]:
    """Return regular files; names that orbax draws have no influence on the order."""
    files = [p for p in run.rglob("*") if p.is_file() and not p.is_symlink()]
    return sorted(files, key=lambda p: (re.sub(r"[0-9a-f]{32}", "", str(p)), _size(p)))


def _size(path: Path) -> int:
    return path.stat().st_size


def _pick_file(rng: np.random.Generator, run: Path) -> Path:
    """Return a file, those beside the checkpoints more often."""
    files = [p for p in _list_files(run) if p.suffix != ".png" and p.name != ".lock"]
    weights = np.array(
        [1.0 if "ocdbt" in str(p) or "/d/" in str(p) else 4.0 for p in files]
    )
    return files[int(rng.choice(len(files), p=weights / weights.sum()))]


def _pick_json(rng: np.random.Generator, run: Path) -> Path:
    files = [p for p in _list_files(run) if p.suffix in (".json", ".jsonl")]
    weights = np.array([6.0 if p.name == "config.json" else 2.0 for p in files])
    return files[int(rng.choice(len(files), p=weights / weights.sum()))]


def _pick_any(rng: np.random.Generator, run: Path) -> Path:
    """Return a file or a folder."""
    folders = sorted(p for p in run.rglob("*") if p.is_dir() and "ocdbt" not in str(p))
    paths = [*_list_files(run), *folders, *folders]
    return paths[int(rng.integers(len(paths)))]


def _swap(rng: np.random.Generator, base: Base, run: Path) -> str:
    """Put a file or a folder of another run in the place of its own."""
    pairs = []
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run)
        twin = base.other / name
        top = len(name.parts) <= 3
        if top and twin.exists() and name.parts[0] != "plots":
            pairs.append((path, twin))
    path, twin = pairs[int(rng.integers(len(pairs)))]
    if twin.is_dir():
        shutil.rmtree(path)
        shutil.copytree(twin, path)
    else:
        path.unlink()
        shutil.copyfile(twin, path)
    return f"{path.relative_to(run)} of another run"


def _add_foreign(rng: np.random.Generator, run: Path, foreign: set[str]) -> str:
    """Put a user's file into a folder of the run."""
    folders = [run, *sorted(p for p in run.rglob("*") if p.is_dir())]
    folders = [p for p in folders if "ocdbt" not in str(p) and p.name != "d"]
    names = (
        "notes.txt",
        "7.json",
        "99",
        "mine.npz",
        ".hidden",
        "orbax.txt",
        "plots.png",
    )
    folder = folders[int(rng.integers(len(folders)))]
    path = folder / str(rng.choice(names))
    path.write_text(_NOTES)
    foreign.add(str(path.relative_to(run)))
    return str(path.relative_to(run))


def _link(rng: np.random.Generator, run: Path, foreign: set[str]) -> str:
    """Put a link to a user's file or folder in the place of something."""
    path = _pick_any(rng, run)
    outside = run.parent / "outside"
    outside.mkdir(exist_ok=True)
    target = outside / path.name
    is_moved = bool(rng.random() < 0.5)
    if is_moved:
        shutil.move(path, target)
    elif path.is_dir():
        shutil.rmtree(path)
        target.mkdir()
        (target / "notes.txt").write_text(_NOTES)
    else:
        path.unlink()
        target.write_text(_NOTES)
    path.symlink_to(os.path.relpath(target, path.parent))
    what = "itself, moved" if is_moved else "a user's"
    return f"{path.relative_to(run)} is a link to {what}"


# What must hold


class _Keeper:
    """Knows what a run was worth before a command."""

    def __init__(
        self,
        run: Path,
        good: Mapping[str, str],
        damaged: Mapping[str, str],
        foreign: set[str],
        wanted: Path | None,
    ):
        """Note what is undamaged and what is a user's."""
        self.run, self.foreign, self.wanted = run, foreign, wanted
        self.intact = {n for n, what in good.items() if damaged.get(n) == what}
        told = _read(run / "metrics.jsonl") if "metrics.jsonl" in self.intact else b""
        self.lines = set(told.splitlines())
        self.newest = {
            parent: max(versions)
            for parent, versions in _find_checkpoints(good, self.intact).items()
        }
        self.grew = _read_num_updates(run) not in (None, NUM_UPDATES)

    def find_loss(self, code: int) -> str:
        """Return what of value is gone after a command that was to go on."""
        lines = _read(self.run / "metrics.jsonl").splitlines()
        if code and not self.lines <= set(lines):
            return "lines of metrics.jsonl are gone"
        for parent, version in self.newest.items():
            seals = [
                int(path.stem)
                for path in (self.run / parent).glob("*.json")
                if path.stem.isdecimal()
            ]
            if max(seals, default=-1) < version:
                return f"{parent}/{version} is gone"
        return ""

    def find_error(self, *, with_arrays: bool = True) -> str:
        """Return what differs from an undisturbed run after it went on."""
        assert self.wanted is not None
        if self.grew:
            return ""  # it is another run then, and was asked to be
        for path in _list_files(self.wanted):
            name = str(path.relative_to(self.wanted))
            is_array = name.endswith(".npz")
            if not _RESULTS.fullmatch(name) or (is_array and not with_arrays):
                continue
            if _read(self.run / name) != path.read_bytes():
                return f"{name} differs from the undisturbed run"
        return ""


def _compare_sweeps(keeper: _Keeper, path: Path, wanted: Path) -> str:
    """Return what differs from an undisturbed sweep.

    A sweep does not run again what has a model, and looks at no archive: one that is
    damaged is told of by whoever reads it.
    """
    table = _read(path / "table.csv")
    if table != _read(wanted / "table.csv") and not keeper.grew:
        return "table.csv differs from the undisturbed sweep"
    return keeper.find_error(with_arrays=False)


def _may_change(keeper: _Keeper, prefix: str, path: str) -> bool:
    """Return whether a command may change a file of the case."""
    if not path.startswith(prefix):
        return keeper.wanted is not None and path.startswith("run/")  # of a sweep
    name = path[len(prefix) :]
    if name in keeper.foreign:
        return False
    if name not in keeper.intact or _REWRITTEN.fullmatch(name):
        return True
    # What is made again must be what it was; a longer run has other results.
    if keeper.wanted is None:
        return False
    now = keeper.run / name
    if name == "metrics.jsonl" or name.endswith((".npz", "model.json", "method.json")):
        return now.is_file()
    return _read(now) == _read(keeper.wanted / name)


def _find_checkpoints(
    good: Mapping[str, str], intact: set[str]
) -> dict[str, list[int]]:
    """Return the versions of undamaged checkpoints, by their folder."""
    found: dict[str, list[int]] = {}
    for name in good:
        parent, file = Path(name).parent.as_posix(), Path(name)
        if not parent.endswith("checkpoints") or not file.stem.isdecimal():
            continue
        inner = [n for n in good if n.startswith(f"{parent}/{file.stem}/")]
        if {name, *inner} <= intact:
            found.setdefault(parent, []).append(int(file.stem))
    return found


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _read_num_updates(run: Path) -> object:
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        return config["settings"]["num_updates"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
