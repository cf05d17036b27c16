"""Count what silent nodes cost in a real network, with default limits and without.

    python scripts/flower_silence.py

A SuperLink and some SuperNodes on this machine train on the handwritten digits, as many
tasks in flight as there are honest nodes; the others take tasks and never answer. Each
run is stopped after a while, counted from when the run without silent nodes had its
first update. It is ``scripts/flower_attacks.py`` with real processes, and smaller:
honest nodes wait for most of a task, so that the cores are not what limits them.
"""

import dataclasses
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.flower_attacks import DEADLINES_ALONE
from benchmarks.flower_net import APP, load_local_net, read_rows
from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.cli.run_flags import check_positive
from fedasync_jax.flower.limits import Limits

_START_SECONDS = 120  # until the first update
_LIMITS = ("deadline", "min-deadline", "back-off", "max-back-off")  # the app has others


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What the network is."""

    honest: int = 4
    """Nodes that answer."""
    silent: int = 4
    """Nodes that take tasks and never answer."""
    delay: float = 8.0
    """Seconds that an honest node waits in every task."""
    seconds: float = 300.0
    """Of every run, after its start."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_positive(self, "honest", "silent", "delay", "seconds")


def main() -> None:
    """Run without silent nodes, then with them, and print."""
    flags = parse_flags(Flags, __doc__ or "")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no process may stay
    table = Table(title=f"{flags.honest} honest SuperNodes, {flags.seconds:g} s")
    columns = "silent", "limits", "updates", "share", "of the second half"
    for name in (*columns, "longest pause"):
        table.add_column(name, justify="left" if name == "limits" else "right")
    undisturbed, start = None, None
    cases = (
        (0, "default", {}),
        (flags.silent, "deadlines", DEADLINES_ALONE),
        (flags.silent, "default", {}),
    )
    for num_silent, name, limits in cases:
        try:
            start, times = measure(flags, num_silent, limits, start)
        except TimeoutError as error:
            fail(error)
        late = [seconds for seconds in times if seconds > flags.seconds / 2]
        counts = len(times), len(late)
        undisturbed = counts if undisturbed is None else undisturbed
        shares = [
            f"{count / usual:.0%}" if usual else "-"
            for count, usual in zip(counts, undisturbed, strict=True)
        ]
        pause = np.diff([0.0, *times, flags.seconds]).max()
        table.add_row(str(num_silent), name, str(len(times)), *shares, f"{pause:.0f} s")
    Console().print(table)


def measure(
    flags: Flags, num_silent: int, limits: Mapping[str, object], start: float | None
) -> tuple[float, list[float]]:
    """Run a network; return how long its start took, and when updates came after it.

    Args:
      flags: what the network is.
      num_silent: nodes beside the honest ones.
      limits: of the server, in the place of its defaults.
      start: seconds from the initial model to the end of the start; None: until the
        first update.

    Raises:
      TimeoutError: if the server does not start or, with ``start=None``, there is no
        update; the logs are kept.
    """
    root = Path(tempfile.mkdtemp(prefix="flower-silence-"))
    run_dir, num_nodes = root / "run", flags.honest + num_silent
    module = load_local_net()
    superlink, *ports = module.free_ports(1 + num_nodes)
    env = {"JAX_COMPILATION_CACHE_DIR": str(root / "compiled")}
    net = module.LocalNet(superlink, root / "logs", root / "home", env)
    config = {
        "run-dir": str(run_dir),
        "num-updates": 10**6,
        "num-clients": num_nodes,
        "max-in-flight": flags.honest,
        "eval-every": 1,
        **{name: getattr(Limits(), name.replace("-", "_")) for name in _LIMITS},
        **limits,
    }
    try:
        net.start_superlink()
        for number, port in enumerate(ports):
            delay = flags.delay if number < flags.honest else 1e5
            part = f"partition-id={number} num-partitions={num_nodes}"
            net.start_node(f"node-{number}", port, f"{part} delay={delay}")
        net.run_app(shutil.copytree(APP, root / "app"), config)
        # With silent nodes an update may never come. The first row has none.
        until, needed = time.monotonic() + _START_SECONDS, 2 if start is None else 1
        while len(rows := read_rows(run_dir)) < needed:
            if time.monotonic() > until:
                raise TimeoutError(
                    f"{run_dir} must have {needed} row(s) within {_START_SECONDS} s, "
                    f"got {len(rows)}; logs: {root / 'logs'}"
                )
            time.sleep(0.5)
        begin = rows[1]["virtual_time"] if start is None else start
        time.sleep(begin - rows[-1]["virtual_time"] + flags.seconds)
        times = [row["virtual_time"] - begin for row in read_rows(run_dir)[1:]]
    finally:
        net.stop()
    shutil.rmtree(root)
    return begin, [max(t, 0.0) for t in times if t <= flags.seconds]


if __name__ == "__main__":
    main()
