"""Do a network harm while FedAsync runs over it, and see what was mixed.

    python scripts/flower_faults.py

A SuperLink and seven SuperNodes on this machine train on the handwritten digits, over
TLS and with a key for every node. One of them sends, after a good reply, a model with
NaNs, one of a wrong shape, an old reply again, one with too many bytes and one that is
far away; one always fails; one takes tasks and never answers; one is so slow that its
first reply is late; one is killed while it works and comes back with its key; one holds
two clients, which train for one message.

Then the SuperLink is stopped in the middle of its work, as if its machine hung. The
server must end by itself, in bounded time, with its state saved and its folder free.
It goes on with a new SuperLink, for which all nodes have new numbers. Later both are
killed, and it goes on from its last checkpoint. In the end there must be the number of
updates that was asked for and seven nodes, known by their keys; each kind of harm must
have been counted once, as a banned node stays banned; and the simulator, which replays
the arrivals, must get the same model.
"""

import collections
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flower_keys import make_secrets
from benchmarks.flower_net import APP, load_local_net, read_rows
from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.flower.replay import Replay, replay_run
from fedasync_jax.storage import read_run
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.lock import find_writer

_METHOD = "FedAsync polynomial(0.5)"
_NUM_NODES, _CHECKPOINT_EVERY = 7, 5
_LATE, _HOSTILE, _FAILING, _SILENT, _KILLED, _DOUBLE = 6, 5, 4, 3, 0, 2  # partitions
_SECOND, _NUM_PARTITIONS = 7, 8  # client of the node that holds two
_PAUSE = 5.0  # seconds before a SuperNode that ended is started again
_REPLIES = "replies='good+nan+shape+replay+oversized+large'"
_HARM = ("not finite", "wrong shape", "wrong task", "too large", "update too large")
_HANG_SECONDS = 20
_DEADLINE = 60.0  # seconds; as long as the first tasks of honest nodes may take


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """How long it lasts."""

    num_updates: int = 90
    """Updates of the run."""
    seconds: float = 1500.0
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no process may stay
    harness = _Harness(root, flags)
    try:
        harness.play()
    except (TimeoutError, ValueError) as error:
        fail(f"{error}; logs: {root / 'logs'}")
    finally:
        harness.net.stop()
    replay = replay_run(harness.run_dir)
    problems = _find_problems(replay, harness, flags)
    _print_story(replay, harness)
    for line in problems:
        print(f"violated: {line}")
    if not problems:
        shutil.rmtree(root)
    sys.exit(bool(problems))


class _Harness:
    """The network, and what is done to it."""

    def __init__(self, root: Path, flags: Flags):
        module = load_local_net()
        self.begin, self.flags = time.monotonic(), flags
        self.lock_seconds, self.hung_at, self.killed_at = 0.0, 0, 0
        self.started: dict[int, float] = {}  # when each SuperNode was
        self.app = shutil.copytree(APP, root / "app")
        self.run_dir = root / "run"
        superlink, *self.ports = module.free_ports(1 + _NUM_NODES)
        env = {"JAX_COMPILATION_CACHE_DIR": str(root / "compiled")}
        self.secrets = make_secrets(root / "secrets", _NUM_NODES)
        certificate = self.secrets.certificate
        home, logs = root / "home", root / "logs"
        self.net = module.LocalNet(superlink, logs, home, env, certificate)

    def play(self) -> None:
        """Do all the harm."""
        self.start_all()
        self.wait("3 updates", lambda: self.version() >= 3)
        self.killed_at = self.version()
        self.say("killing a SuperNode, which is started again")
        self.net.kill(self.net.nodes[f"node-{_KILLED}"])
        self.wait("each kind of harm", lambda: set(_HARM) <= self.causes().keys())
        self.wait("the lost node's task", lambda: "node left" in self.causes())
        self.wait("a silent node", lambda: "deadline" in self.causes())
        self.wait("a late reply", lambda: "late" in self.causes())
        self.hang()
        saved = self.version() + _CHECKPOINT_EVERY  # with these counts
        self.wait("the next checkpoint", lambda: self.version() > saved)
        before = self.version()
        self.say(f"killing SuperLink and server at version {before}")
        self.start_again(before)
        self.wait("the end of the run", self.has_ended)
        self.say("the run has ended")

    def hang(self) -> None:
        """Stop the SuperLink, and see the server end by itself."""
        self.hung_at = before = self.version()
        self.say(f"stopping the SuperLink, but not the server, at version {before}")
        begin = time.monotonic()
        os.kill(self.net.superlink.pid, signal.SIGSTOP)
        self.wait("the folder's lock", lambda: find_writer(self.run_dir) is None)
        self.lock_seconds = time.monotonic() - begin
        self.say(f"the run folder is free after {self.lock_seconds:.0f} s")
        self.start_again(before)

    def start_again(self, version: int) -> None:
        """Kill all that is there, start it again, and wait for a newer version."""
        self.started.clear()  # these nodes stay away until all starts again
        for process in (self.net.superlink, self.client, *self.net.nodes.values()):
            self.net.kill(process)
        self.net.kill_rest()  # the server has a process group of its own
        self.wait("the end of the old server", lambda: not any(self.net.find_rest()))
        self.start_all()
        self.wait("the new server", lambda: self.version() > version)
        self.say("the run goes on")

    def start_all(self) -> None:
        """Start SuperLink, nodes and run."""
        self.net.start_superlink(
            "--enable-supernode-auth",
            *("--ssl-ca-certfile", str(self.secrets.certificate)),
            *("--ssl-certfile", str(self.secrets.certificate)),
            *("--ssl-keyfile", str(self.secrets.private_key)),
        )
        for key in self.secrets.node_keys:
            self.net.register(key.with_suffix(".pub"))
        for number in range(_NUM_NODES):
            self.start_node(number)
        config = {
            "run-dir": str(self.run_dir),
            "num-updates": self.flags.num_updates,
            "num-clients": _NUM_PARTITIONS,
            "clients-per-message": 2,
            "eval-every": 1,
            "checkpoint-every": _CHECKPOINT_EVERY,
            "max-bad-replies": len(_HARM),
            "hang-seconds": _HANG_SECONDS,
            "deadline": _DEADLINE,
        }
        self.client = self.net.run_app(self.app, config)

    def start_node(self, number: int) -> None:
        """Start a SuperNode with its character."""
        special = {
            _HOSTILE: _REPLIES,
            _FAILING: "replies='error'",
            _SILENT: "delay=100000",
            _LATE: f"delay={_DEADLINE + 15}",
        }
        part = f"partition-id={number}"
        if number == _DOUBLE:
            part = f"partition-ids='{_DOUBLE} {_SECOND}'"
        config = f"{part} num-partitions={_NUM_PARTITIONS} {special.get(number, '')}"
        flags = "--auth-supernode-private-key", str(self.secrets.node_keys[number])
        self.started[number] = time.monotonic()
        self.net.start_node(f"node-{number}", self.ports[number], config, *flags)

    def revive_nodes(self) -> None:
        """Start SuperNodes that have ended, as a service manager does.

        A SuperLink refuses a node that was killed until it has missed its heartbeats.
        """
        for number, started in self.started.items():
            ended = self.net.nodes[f"node-{number}"].poll() is not None
            if ended and time.monotonic() > started + _PAUSE:
                self.start_node(number)

    def has_ended(self) -> bool:
        """Return whether the run has made its last update."""
        return (self.run_dir / "summary.json").is_file()

    def version(self) -> int:
        """Return the newest version that was evaluated."""
        return self.last_row().get("version", 0)

    def causes(self) -> dict[str, int]:
        """Return how often each kind of harm was counted so far."""
        return self.last_row().get("causes", {})

    def nodes(self) -> list[int]:
        """Return Flower's first numbers of the nodes that the server has seen."""
        with np.load(self.run_dir / "clients.npz") as clients:
            return clients["node"].tolist()

    def last_row(self) -> dict[str, Any]:
        """Return the newest line of metrics."""
        rows = read_rows(self.run_dir)
        return rows[-1] if rows else {}

    def wait(self, what: str, is_there: Callable[[], bool]) -> None:
        """Wait until something is there.

        Raises:
          TimeoutError: if the time of the script is over.
          ValueError: if the run ends before.
        """
        while not is_there():
            self.revive_nodes()
            if self.has_ended() and not is_there():
                raise ValueError(
                    f"{what} must be there before the run ends, got {self.causes()}; "
                    f"num_updates must be > {self.flags.num_updates}"
                )
            if time.monotonic() > self.begin + self.flags.seconds:
                raise TimeoutError(
                    f"{what} must be there within {self.flags.seconds:g} s, got "
                    f"version {self.version()} and {self.causes()}"
                )
            time.sleep(0.5)

    def say(self, line: str) -> None:
        """Print what happens, and when."""
        print(f"{time.monotonic() - self.begin:5.0f} s  {line}", flush=True)


def _find_problems(replay: Replay, harness: _Harness, flags: Flags) -> list[str]:
    """Return what is not as it must be, a line each."""
    updates, causes = replay.updates, harness.causes()
    lines = [
        f"{cause} was counted {causes.get(cause, 0)} times"
        for cause in _HARM
        if causes.get(cause) != 1
    ]
    if len(updates["client"]) != flags.num_updates:
        lines.append(f"{len(updates['client'])} updates, not {flags.num_updates}")
    if replay.difference > 1e-6:
        lines.append(f"the replayed model differs by {replay.difference:g}")
    for partition, what in ((_FAILING, "always fails"), (_SILENT, "never answers")):
        if (updates["partition"] == partition).any():
            lines.append(f"the node that {what} was mixed")
    for partition in (_DOUBLE, _SECOND):
        if not (updates["partition"] == partition).any():
            lines.append(f"client {partition} of the node with two was never mixed")
    if not (updates["partition"][harness.killed_at + 1 :] == _KILLED).any():
        lines.append("the node that was killed never came back")
    if (count := len(harness.nodes())) != _NUM_NODES:
        lines.append(f"{count} nodes, not {_NUM_NODES}: some were not recognized")
    if (updates["norm"] * updates["scale"]).max() > 10:
        lines.append("a model was mixed that is far away")
    if harness.lock_seconds > 3 * _HANG_SECONDS:
        lines.append(f"the server held its folder for {harness.lock_seconds:.0f} s")
    begins = [
        part["begins"][_METHOD] for part in read_config(harness.run_dir)["sittings"]
    ]
    if begins[1] < harness.hung_at:
        lines.append(f"the server that hung at {harness.hung_at} saved {begins[1]}")
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


if __name__ == "__main__":
    main()
