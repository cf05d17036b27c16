"""What it costs that two processes share a run, on one machine.

    python scripts/process_speed.py

One process with two devices, and two processes with a device each, take turns. Updates
per second on the digits, for a small network and a large one; the median of each turn.
"""

import dataclasses
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import jax

import fedasync_jax as fa
from fedasync_jax.cli.flags import parse_flags
from fedasync_jax.jobs.machine import describe_hardware
from fedasync_jax.jobs.versions import describe_versions
from fedasync_jax.parts.bounds import at_least, check_value

_SCRIPT = Path(__file__).parents[1] / "scripts" / "process_speed.py"
_REPEATS = 3
_NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "64 units": (4000, {}),
    "1024, 1024 units": (120, {"hidden": (1024, 1024)}),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is measured."""

    turns: int = 2
    """Times that either is measured."""

    def __post_init__(self) -> None:
        """Check the field."""
        check_value("turns", Annotated[int, at_least(1)], self.turns)


def main() -> None:
    """Measure in turns and print; or be one of the processes that are measured."""
    if os.environ.get("FEDASYNC_SPEED_OF"):
        _measure(*map(int, os.environ["FEDASYNC_SPEED_OF"].split()))
        return
    flags = parse_flags(Flags, __doc__ or "")
    for _ in range(flags.turns):
        _run(1)
        _run(2)
    print(describe_hardware(), describe_versions())


def _run(count: int) -> None:
    """Start processes and wait for them; the first one prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, str(_SCRIPT)],
            env=os.environ
            | {
                "FEDASYNC_SPEED_OF": f"{count} {index} {port}",
                "JAX_NUM_CPU_DEVICES": str(2 // count),
            },
        )
        for index in range(count)
    ]
    for process in started:
        process.wait()


def _measure(count: int, index: int, port: int) -> None:
    if count > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    for name, (num_updates, others) in _NETWORKS.items():
        settings = fa.make_settings(
            methods=("fedasync-polynomial",),
            num_updates=num_updates,
            eval_every=num_updates,
            **others,
        )
        fa.train(settings)  # compiles
        results = [fa.train(settings) for _ in range(_REPEATS)]
        median = statistics.median(r.outcomes[0].wall_seconds for r in results)
        if index == 0:
            rate = num_updates / median
            print(f"{count} process(es), {name}: {rate:,.0f} updates/s", flush=True)


if __name__ == "__main__":
    main()
