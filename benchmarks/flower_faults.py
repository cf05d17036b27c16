"""Do a network harm while FedAsync runs over it, and see what was mixed.

    python scripts/flower_faults.py

A SuperLink and six SuperNodes on this machine train on the handwritten digits. One of
them sends, after a good reply, a model with NaNs, one of a wrong shape, an old reply
again and one that is far too large; one always fails; one is killed while it works and
comes back as another node. Then the SuperLink and the server are killed and started
again, and the run goes on from its last checkpoint. In the end there must be the number
of updates that was asked for, each kind of harm must have been counted, and the
simulator, which replays the arrivals, must get the same model.
"""

import collections
import dataclasses
import importlib.util
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.flower.replay import Replay, replay_run
from fedasync_jax.storage import read_run

_ROOT = Path(__file__).parents[1]
_METHOD = "FedAsync polynomial(0.5)"
_NUM_NODES, _CHECKPOINT_EVERY = 6, 2
_HOSTILE, _FAILING, _KILLED = 5, 4, 0  # partitions
_REPLIES = "replies='good+nan+shape+replay+oversized'"
_HARM = ("not finite", "wrong shape", "wrong task", "too large")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """How long it lasts."""

    num_updates: int = 40
    """Updates of the run."""
    seconds: float = 900.0
    """After these the script gives up."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("num_updates", "seconds"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


def main() -> None:
    """Run, harm, count; exit code 1 if anything is not as it must be."""
    flags = parse_flags(Flags, __doc__ or "")
    root = Path(tempfile.mkdtemp(prefix="flower-faults-"))
    harness = _Harness(root, flags)
    try:
        harness.play()
    except (TimeoutError, ValueError) as error:
        fail(f"{error}; logs: {root / 'logs'}")
    finally:
        harness.net.stop()
    replay = replay_run(harness.run_dir)
    problems = _find_problems(replay, harness.causes(), flags)
    _print_story(replay, harness)
    for line in problems:
        print(f"violated: {line}")
    if not problems:
        shutil.rmtree(root)
    sys.exit(bool(problems))


class _Harness:
    """The network, and what is done to it."""

    def __init__(self, root: Path, flags: Flags):
        module = _load_local_net()
        self.begin, self.flags = time.monotonic(), flags
        self.app = shutil.copytree(_ROOT / "benchmarks" / "flower_app", root / "app")
        self.run_dir = root / "run"
        superlink, *self.ports = module.free_ports(1 + _NUM_NODES)
        env = {"JAX_COMPILATION_CACHE_DIR": str(root / "compiled")}
        self.net = module.LocalNet(superlink, root / "logs", root / "home", env)

    def play(self) -> None:
        """Do all the harm."""
        self.start_all()
        self.wait("3 updates", lambda: self.version() >= 3)
        self.say("killing a SuperNode")
        self.net.kill(self.net.nodes[f"node-{_KILLED}"])
        time.sleep(3)
        self.start_node(_KILLED)
        self.wait("each kind of harm", lambda: set(_HARM) <= self.causes().keys())
        self.wait("the lost node's task", lambda: "node left" in self.causes())
        saved = self.version() + _CHECKPOINT_EVERY  # with these counts
        self.wait("the next checkpoint", lambda: self.version() > saved)
        before = self.version()
        self.say(f"killing SuperLink and server at version {before}")
        for process in (self.net.superlink, self.client, *self.net.nodes.values()):
            self.net.kill(process)
        self.net.kill_rest()  # the server has a process group of its own
        self.wait("the end of the old server", lambda: not any(self.net.find_rest()))
        self.start_all()
        self.wait("the new server", lambda: self.version() > before)
        self.say("the run goes on")
        summary = self.run_dir / "summary.json"
        self.wait("the end of the run", summary.is_file)
        self.say("the run has ended")

    def start_all(self) -> None:
        """Start SuperLink, nodes and run."""
        self.net.start_superlink()
        for number in range(_NUM_NODES):
            self.start_node(number)
        config = {
            "run-dir": str(self.run_dir),
            "num-updates": self.flags.num_updates,
            "num-clients": _NUM_NODES,
            "eval-every": 1,
            "checkpoint-every": _CHECKPOINT_EVERY,
            "max-bad-replies": len(_HARM),
        }
        self.client = self.net.run_app(self.app, config)

    def start_node(self, number: int) -> None:
        """Start a SuperNode with its character."""
        special = {_HOSTILE: _REPLIES, _FAILING: "replies='error'"}
        config = f"partition-id={number} num-partitions={_NUM_NODES}"
        config = f"{config} {special.get(number, '')}".strip()
        self.net.start_node(f"node-{number}", self.ports[number], config)

    def version(self) -> int:
        """Return the newest version that was evaluated."""
        return self.last_row().get("version", 0)

    def causes(self) -> dict[str, int]:
        """Return how often each kind of harm was counted so far."""
        return self.last_row().get("causes", {})

    def last_row(self) -> dict[str, Any]:
        """Return the newest line of metrics."""
        path = self.run_dir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return json.loads(lines[-1]) if lines else {}

    def wait(self, what: str, is_there: Callable[[], bool]) -> None:
        """Wait until something is there.

        Raises:
          TimeoutError: if the time of the script is over.
        """
        while not is_there():
            if time.monotonic() > self.begin + self.flags.seconds:
                raise TimeoutError(
                    f"{what} must be there within {self.flags.seconds:g} s, got "
                    f"version {self.version()} and {self.causes()}"
                )
            time.sleep(0.5)

    def say(self, line: str) -> None:
        """Print what happens, and when."""
        print(f"{time.monotonic() - self.begin:5.0f} s  {line}", flush=True)


def _find_problems(replay: Replay, causes: dict[str, int], flags: Flags) -> list[str]:
    """Return what is not as it must be, a line each."""
    updates = replay.updates
    lines = [f"{cause} was never counted" for cause in _HARM if not causes.get(cause)]
    if len(updates["client"]) != flags.num_updates:
        lines.append(f"{len(updates['client'])} updates, not {flags.num_updates}")
    if replay.difference > 1e-6:
        lines.append(f"the replayed model differs by {replay.difference:g}")
    if (updates["partition"] == _FAILING).any():
        lines.append("the node that always fails was mixed")
    return lines


def _print_story(replay: Replay, harness: _Harness) -> None:
    partitions = replay.updates["partition"]
    by_node = collections.Counter(partitions.tolist())
    print(f"updates: {len(partitions)}, by node {dict(sorted(by_node.items()))}")
    lost = read_run.read_lost(harness.run_dir, _METHOD) or {"cause": ()}
    for cause, count in sorted(collections.Counter(lost["cause"]).items()):
        print(f"lost: {count} {cause}")
    seconds = replay.updates["arrival_time"][-1]
    print(f"{len(partitions) / seconds:.2f} updates/s, staleness", end=" ")
    print(f"{replay.updates['staleness'].mean():.1f} in the mean")
    print(f"the simulator's replay differs by {replay.difference:.1e} at most")


def _load_local_net() -> ModuleType:
    path = _ROOT / "examples" / "flower" / "local_net.py"
    spec = importlib.util.spec_from_file_location("local_net", path)
    if spec is None or spec.loader is None:
        fail(f"{path} must be a module, which it is not")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
