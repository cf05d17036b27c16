"""Kill a run again and again, damage its checkpoints, and see whether anything is lost.

    python scripts/torture.py --kills 20

A job on the handwritten digits is started, killed with SIGKILL at random moments and
resumed each time. In the end the models, arrivals and metrics must be, bit for bit,
those of the same job undisturbed. Then every file of a checkpoint is damaged, once by a
flipped byte and once by cutting it short: the checkpoint before it must be used.
"""

import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.engine.state import init_state
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import from_json
from fedasync_jax.jobs import cores
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.config import read_config

_TRAIN = Path(__file__).parents[1] / "scripts" / "train.py"
_JOB = ("--methods", "fedasync-polynomial", "fedavg", "--checkpoint-every", "50")
_COMPARED = (
    "metrics.jsonl",
    "*/model/model.safetensors",
    "*/updates.npz",
    "*/lost.npz",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is done to the job."""

    kills: int = 20
    """Times that a run is killed."""
    num_updates: int = 1000
    """Updates of the job."""
    seed: int = 0
    """Seed of the moments."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("kills", "num_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


def main() -> None:
    """Disturb, compare, count; exit code 1 if anything was lost."""
    cores.use_all_cores()
    flags = parse_flags(Flags, __doc__ or "")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        command = [sys.executable, str(_TRAIN), *_JOB]
        command += ["--num-updates", str(flags.num_updates), "--run-dir"]
        begin = time.monotonic()
        if subprocess.run([*command, root / "calm"], capture_output=True).returncode:
            fail("the undisturbed job must end well, which it does not")
        seconds = time.monotonic() - begin
        print(f"undisturbed: {seconds:.1f} s")
        survived = _kill(command, root, seconds, flags)
        found = _damage(root / "calm")
        print(f"killed and resumed: {survived}/{flags.kills} as if never interrupted")
        good = sum(used for _, used in found)
        print(f"damaged checkpoints: {good}/{len(found)} passed over for an intact one")
        for what, used in found:
            if not used:
                print(f"lost: {what}")
    sys.exit(survived < flags.kills or good < len(found))


def _kill(command: list[str], root: Path, seconds: float, flags: Flags) -> int:
    """Return how many of the kills did no harm."""
    moments = np.random.default_rng(flags.seed)
    survived = done = 0
    while done < flags.kills:
        path, kills = root / f"killed-{done}", 0
        while True:
            is_left_alone = done + kills == flags.kills
            limit = None if is_left_alone else moments.uniform(0.2, 1.0) * seconds
            ended = _run_for([*command, str(path)], limit)
            if ended:
                break
            kills += 1
        same = _is_same(root / "calm", path)
        print(f"{kills} kills: {'the same' if same else 'NOT THE SAME'}")
        done += kills
        survived += kills if same else 0
        shutil.rmtree(path)
    return survived


def _run_for(command: list[str], limit: float | None) -> bool:
    """Run for some seconds, then kill; return whether it ended by itself before."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    if process.returncode:
        fail(f"a resumed run must end well, got {said}")
    return True


def _is_same(calm: Path, killed: Path) -> bool:
    paths = [path for pattern in _COMPARED for path in sorted(calm.glob(pattern))]
    return all(
        path.read_bytes() == (killed / path.relative_to(calm)).read_bytes()
        for path in paths
    )


def _damage(run_dir: Path) -> list[tuple[str, bool]]:
    """Return what was damaged and whether the checkpoint before it was used."""
    settings = from_json(read_config(run_dir)["settings"])
    built = build_experiment(settings)
    method = built.methods[0]
    first = init_state(method.trace, method.mixer, built.variables)
    source = next(run_dir.glob("fedasync*/checkpoints"))
    versions = sorted(int(seal.stem) for seal in source.glob("*.json"))
    results = []
    for path in _list_files(source, versions[-1]):
        for how, change in (("flipped", _flip), ("cut", _cut)):
            copy = source.with_name("damaged")
            shutil.copytree(source, copy)
            change(copy / path)
            with Checkpoints(copy, every=1) as checkpoints:
                found = checkpoints.restore(first)
            used = found is not None and found[0].state.version == versions[-2]
            results.append((f"{path}, {how}", used))
            shutil.rmtree(copy)
    jax.block_until_ready(first.variables)
    return results


def _list_files(source: Path, version: int) -> Iterator[Path]:
    yield Path(f"{version}.json")
    for path in sorted((source / str(version)).rglob("*")):
        if path.is_file():
            yield path.relative_to(source)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


if __name__ == "__main__":
    main()
