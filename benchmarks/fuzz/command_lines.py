"""Command lines at random: unknown flags, values that are not what they seem."""

import shutil
import typing
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from benchmarks.fuzz.base import Base, flatten, small_words
from benchmarks.fuzz.case import Case
from fedasync_jax.experiment.presets import FLEETS, PRESETS
from fedasync_jax.experiment.settings import PARTS
from fedasync_jax.parts.bounds import OneOf

_LARGE = 10_000.0
_INTEGERS = ("-1", "0", "1", "2", "3", "7", "1000", "2147483647", "2147483648")
_INTEGERS += ("4294967296", "9223372036854775808", "1" + "0" * 30, "9" * 5000, "1_0")
_REALS = ("nan", "inf", "-inf", "-0.0", "1e-320", "1e-40", "1e308", "1e400", "0.5")
_REALS += ("0.999", "1.5", "1e-9", "1e9", "-1e-9")
_TEXTS = (
    "",
    " ",
    "None",
    "null",
    "true",
    "☃",
    "\uff11\uff12",
    "é" * 300,
    "x" * 5000,
    "a\nb",
)
_TEXTS += ("--", "-", "=", "\udcff", "%s", "[red]x[/]", "[/]", "{0}", "0x10", "1,2")
_PATHS = ("missing.npz", ".", "..", "data.npz", "/dev/zero", "/dev/null", "/dev/full")
_PATHS += ("/proc/self/mem", "run/a/b", "\t", "speeds.csv", "input.txt", "~", "n" * 300)
_UNKNOWN = ("--alhpa", "---", "--x=", "-x", "--alpha=", "--no-alpha", "--seed=1=2")
_UNKNOWN += ("--ALPHA", "--run_dir", "--données", "-h=1", "--alpha-", "word", "-1")
_GRIDS = ("alpha=", "=1", "alpha", "alpha=0.3,,0.6", "alpha=0.3,0.3", "nope=1", "a=b=c")
_GRIDS += ("seed=1", "alpha=nan", "hidden=2,3", "hidden=2+3", "methods=sgd+fedavg", ",")
_GRIDS += ("num-steps=1,2", "alpha=2", "☃=1", "alpha=" + "0.1," * 1000, "alpha=0.3")


def draw_command_line(rng: np.random.Generator, base: Base, folder: Path) -> Case:
    """Return a case with a bad command line; or with a good one, now and then."""
    for name in ("data.npz", "speeds.csv", "windows.csv", "input.txt"):
        (folder / name).write_bytes((base.data / name).read_bytes())
    draws = {
        "train": (_draw_train, 0.68),
        "sweep": (_draw_sweep, 0.14),
        "plot": (_draw_plot, 0.09),
        "summary": (_draw_summary, 0.06),
        "command": (_draw_word, 0.03),
    }
    name = rng.choice(list(draws), p=[share for _, share in draws.values()])
    if name == "plot":
        shutil.copytree(base.finished, folder / "run")
        shutil.copytree(base.stopped, folder / "part")
    words = draws[str(name)][0](rng, base)
    is_large = any(_is_large(word) for word in words)
    shown = " ".join(word if len(word) < 40 else f"{word[:37]}..." for word in words)
    return Case(
        tuple(words),
        shown,
        is_large=is_large,
        may_change=lambda path: path.startswith(("run/plots/", "part/plots/")),
    )


def _draw_train(rng: np.random.Generator, base: Base) -> list[str]:
    small = small_words(base.data) | {"--methods": ("fedasync-polynomial",)}
    flags = {**small, "--run-dir": ("run",)}
    more = _change_flags(rng, flags, list(_hints()))
    extra = {
        "--preset": (*PRESETS, "", "nope", "☃"),
        "--fleet": (*FLEETS, "", "nope"),
        "--load": ("missing.py", "os", "data.npz", "", "x.py y.py", "a.b.c", "☃.py"),
        "--resume": ("run", "missing", "data.npz", "", "."),
        "--check": ("", "1"),
        "--tensorboard": ("",),
    }
    if rng.random() < 0.2:
        flag = str(rng.choice(list(extra)))
        value = str(rng.choice(list(extra[flag])))
        more += [flag, *([value] if value else [])]
    return ["train", *flatten(flags), *more]


def _draw_sweep(rng: np.random.Generator, base: Base) -> list[str]:
    small = small_words(base.data) | {"--methods": ("fedasync-polynomial",)}
    flags = {**small, "--grid": ("alpha=0.3",), "--seeds": ("0",), "--out": ("out",)}
    own: dict[str, tuple[str, ...]] = {
        "--grid": _GRIDS,
        "--seeds": (*_INTEGERS[:6], *_TEXTS, "4294967296", "0 0"),
        "--together": _INTEGERS,
        "--max-minutes": (*_REALS, "0.001", "word"),
        "--out": _PATHS,
        "--run-dir": ("run",),
        "--seed": ("1",),
    }
    flag = str(rng.choice(list(own)))
    count = int(rng.choice([0, 1, 1, 1, 2]))
    flags[flag] = tuple(str(rng.choice(list(own[flag]))) for _ in range(count))
    more = _change_flags(rng, flags, list(_hints())) if rng.random() < 0.3 else []
    return ["sweep", *flatten(flags), *more]


def _draw_plot(rng: np.random.Generator, base: Base) -> list[str]:
    count = int(rng.integers(4))
    pool = [*["run", "part"] * 8, *_PATHS, *_TEXTS, *_UNKNOWN]
    words = [str(rng.choice(pool)) for _ in range(count)]
    if rng.random() < 0.4:
        words += ["--out", str(rng.choice([*_PATHS, *_TEXTS]))]
    return ["plot", *words]


def _draw_summary(rng: np.random.Generator, base: Base) -> list[str]:
    pool = [str(base.finished), str(base.stopped), str(base.swept), *_PATHS, *_TEXTS]
    words = ["train", "--summary", str(rng.choice(pool))]
    if rng.random() < 0.3:
        words.append(str(rng.choice([*_UNKNOWN, *_TEXTS, "--check"])))
    return words


def _draw_word(rng: np.random.Generator, base: Base) -> list[str]:
    pool = [*_TEXTS, "trian", "--version", "-h", "TRAIN", "plot --help", "train --help"]
    return str(rng.choice(pool)).split(" ")


def _change_flags(
    rng: np.random.Generator, flags: dict[str, tuple[str, ...]], names: list[str]
) -> list[str]:
    """Change one to three flags, and return words to add behind them."""
    more: list[str] = []
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        name = str(rng.choice(names))
        flag = f"--{name.replace('_', '-')}"
        kind = rng.random()
        if kind < 0.72:
            flags[flag] = _draw_values(rng, name)
        elif kind < 0.80:
            flags[flag] = ()
        elif kind < 0.88:
            more.append(str(rng.choice(_UNKNOWN)))
        elif kind < 0.94:
            more += [flag, *_draw_values(rng, name)]
        else:
            more.append(f"{flag}={_draw_values(rng, name)[0]}")
    return more


def _draw_values(rng: np.random.Generator, name: str) -> tuple[str, ...]:
    """Return values of a flag, of its own kind as often as not."""
    hint = _hints()[name]
    words = _choices(hint)
    pools: list[tuple[str, ...]] = [_INTEGERS, _REALS, _TEXTS, _PATHS]
    if words and rng.random() < 0.75:
        pool = words
    elif rng.random() < 0.2:
        pool = pools[int(rng.integers(len(pools)))]
    else:
        kinds = _kinds(hint)
        own = {int: _INTEGERS, float: _REALS, Path: _PATHS}
        pool = next((own[kind] for kind in own if kind in kinds), _TEXTS)
    count = int(rng.choice([1, 1, 1, 2, 3])) if _is_list(hint) else 1
    return tuple(str(rng.choice(list(pool))) for _ in range(count))


def _hints() -> dict[str, Any]:
    """Return the annotations of all settings, by name."""
    return {n: hint for record in PARTS.values() for n, hint in record.hints().items()}


def _choices(hint: Any) -> tuple[str, ...]:
    """Return the names that are allowed, if an annotation says so."""
    if typing.get_origin(hint) is Annotated:
        for note in hint.__metadata__:
            if isinstance(note, OneOf):
                return tuple(note.names)
        return _choices(hint.__origin__)
    return tuple(name for arg in typing.get_args(hint) for name in _choices(arg))


def _kinds(hint: Any) -> set[Any]:
    inner = typing.get_args(hint)
    return {hint}.union(*map(_kinds, inner)) if inner else {hint}


def _is_list(hint: Any) -> bool:
    return "tuple" in str(hint) or "Sequence" in str(hint)


def _is_large(word: str) -> bool:
    try:
        return abs(float(word)) >= _LARGE
    except ValueError:
        return False
