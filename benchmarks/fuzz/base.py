"""What is damaged: small data files and small runs, made once."""

import functools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.fuzz.child import Child, wait
from fedasync_jax.cli import command
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.jobs import cores
from fedasync_jax.jobs.identity import identify
from fedasync_jax.jobs.job import run_job
from fedasync_jax.jobs.machine import describe_origin
from fedasync_jax.jobs.runner import Stopped
from fedasync_jax.storage.run_folder import RunFolder

NUM_UPDATES, NUM_CLIENTS = 8, 5
GRID = ("--grid", "alpha=0.3,0.6", "--seeds", "0")
_STOPS = (2, 2)  # calls of the device, until a run that goes on is stopped again
_LIMIT = 300.0  # seconds


class Base(NamedTuple):
    """What the cases copy.

    Attributes:
      data: folder with data files.
      finished: a run.
      stopped: the same run, stopped before its end.
      grown: the same with more updates.
      other: a run with another seed.
      swept: folder of a sweep.
    """

    data: Path
    finished: Path
    stopped: Path
    grown: Path
    other: Path
    swept: Path


def run_command(words: Sequence[str]) -> None:
    """Run ``fedasync WORDS`` in this process."""
    sys.argv = ["fedasync", *words]
    command.main()


def small_words(data: Path) -> dict[str, tuple[str, ...]]:
    """Return the flags of a small run, with their values."""
    return {
        "--dataset": ("npz",),
        "--data-path": (str(data / "data.npz"),),
        "--num-clients": (str(NUM_CLIENTS),),
        "--partition": ("iid",),
        "--clients-per-round": ("2",),
        "--concurrency": ("3",),
        "--num-updates": (str(NUM_UPDATES),),
        "--eval-every": ("2",),
        "--checkpoint-every": ("1000",),
        "--num-steps": ("1",),
        "--batch-size": ("4",),
        "--hidden": ("4",),
    }


def flatten(flags: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return flags and their values as words."""
    return tuple(word for flag, values in flags.items() for word in (flag, *values))


def make_base(root: Path) -> Base:
    """Make data and runs.

    Raises:
      RuntimeError: if an undisturbed run does not end well.
    """
    names = ("data", "finished", "stopped", "grown", "other", "swept")
    base = Base(*(root / name for name in names))
    base.data.mkdir()
    write_data(base.data)
    small = small_words(base.data) | {"--methods": ("fedasync-polynomial", "fedavg")}
    longer = small | {"--num-updates": (str(NUM_UPDATES + 4),)}

    def train(flags: dict[str, tuple[str, ...]], path: Path, *more: str):
        words = ("train", *flatten(flags), "--run-dir", str(path), *more)
        return functools.partial(run_command, words)

    logs = root / "logs"
    sweep = functools.partial(run_command, sweep_words(base.data, base.swept))
    stops = [functools.partial(_stop, base, calls) for calls in _STOPS]
    _do_together(logs / "1", [train(small, base.finished), stops[0]])
    shutil.copytree(base.finished, base.grown)
    _do_together(logs / "2", [train(longer, base.grown), stops[1]])
    _do_together(logs / "3", [train(small, base.other, "--seed", "1"), sweep])
    return base


def sweep_words(data: Path, out: Path) -> tuple[str, ...]:
    """Return the words of the sweep."""
    methods = ("--methods", "fedasync-polynomial")
    return ("sweep", *flatten(small_words(data)), *methods, *GRID, "--out", str(out))


def write_data(folder: Path) -> None:
    """Write good data files of every kind."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)
    names = np.array([f"client {n % NUM_CLIENTS}" for n in range(100)])
    train, test = slice(0, 100), slice(100, 120)
    np.savez(
        folder / "data.npz",
        x_train=x[train],
        y_train=y[train],
        x_test=x[test],
        y_test=y[test],
        client_train=names,
    )
    speeds = "".join(f"{n},{0.5 + n / 4}\n" for n in range(NUM_CLIENTS))
    (folder / "speeds.csv").write_text(f"client,seconds_per_step\n{speeds}")
    windows = "".join(
        f"{n},{10 * k},{10 * k + 5}\n" for n in range(NUM_CLIENTS) for k in range(40)
    )
    (folder / "windows.csv").write_text(f"client,start,end\n{windows}")
    lines = (f"SPEAKER {n % 7}:\nTo be or not to be {n}.\n\n" for n in range(500))
    (folder / "input.txt").write_text("".join(lines))


def _stop(base: Base, calls: int) -> None:
    """Run, or go on, for some calls of the device."""
    cores.use_all_cores()
    settings = _read_settings(base)
    config = {
        "preset": "digits",
        "fleet": None,
        "settings": settings.to_json(),
        **describe_origin(),
    }
    left = iter(range(calls - 1))
    built = build_experiment(settings)
    with RunFolder(base.stopped, config, identify(built)) as folder:
        try:
            run_job(built, folder, should_stop=lambda: next(left, None) is None)
        except Stopped:
            return
    raise RuntimeError("a run must last for more calls")


def _read_settings(base: Base) -> Settings:
    """Return the settings of ``small_words``."""
    return make_settings(
        dataset="npz",
        data_path=base.data / "data.npz",
        num_clients=NUM_CLIENTS,
        partition="iid",
        clients_per_round=2,
        concurrency=3,
        num_updates=NUM_UPDATES,
        eval_every=2,
        checkpoint_every=1000,
        num_steps=1,
        batch_size=4,
        hidden=(4,),
        methods=("fedasync-polynomial", "fedavg"),
        run_dir=base.stopped,
    )


def _do_together(logs: Path, works: Sequence[functools.partial]) -> None:
    children = [
        Child(work, logs.parent, logs / str(number), _LIMIT)
        for number, work in enumerate(works)
    ]
    for ended in [wait(child) for child in children]:
        if ended.code:
            raise RuntimeError(f"an undisturbed run must end well, got {ended.err}")
