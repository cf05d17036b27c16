"""Attack a federation in simulated time, and measure what is left of it.

    python scripts/flower_attacks.py

Server, Coordinator, checks, Updater and messages are those of a run over a network;
only the machines are not there (``flower_network``). Two tables: how many updates are
left when nodes take tasks and never answer, by default and with deadlines alone, and
how good the model becomes when one node in ten is hostile. The second one compares with
the honest nodes alone, over several seeds; the accuracy is the mean of the last ten
evaluations. ``scripts/flower_silence.py`` does the first with real processes.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import flower_nodes
from benchmarks.flower_network import SimulatedGrid, SimulatedNode
from fedasync_jax.base import Variables
from fedasync_jax.cli.flags import parse_flags
from fedasync_jax.cli.run_flags import check_positive
from fedasync_jax.flower.adapter import NodeNetwork
from fedasync_jax.flower.coordinator import Coordinator
from fedasync_jax.flower.explosion import Explosions
from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.server import Server
from fedasync_jax.flower.settings import read_settings, rule_of
from fedasync_jax.flower.updater import Updater

_NUM_HONEST, _TASK_SECONDS = 50, 5.0
_SILENT = (0, 8, 16, 24)
_NUM_CLIENTS, _NUM_HOSTILE = 50, 5
_EVAL_EVERY, _NUM_LAST = 10, 10
_FOREVER = 1e9  # simulated seconds
# Nothing but a deadline: it is always the same, all nodes share all places, and not
# answering has no consequence.
DEADLINES_ALONE: Mapping[str, object] = {
    "min-deadline": Limits().deadline,
    "unproven-share": 1.0,
    "max-silences": 10**6,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is attacked."""

    hours: float = 3.0
    """Simulated hours of a run with silent nodes."""
    num_updates: int = 600
    """Updates of a run with hostile nodes."""
    seeds: int = 3
    """Runs with hostile nodes of each kind."""
    clip_norm_ratio: float = Limits().clip_norm_ratio
    """Of runs with hostile nodes, see docs/flower.md."""
    partition: str = "dirichlet"
    """How the samples are dealt to the nodes of such runs, as for fedasync train."""
    concentration: float = 1.0
    """Of --partition dirichlet: less is more different labels."""
    method: str | None = None
    """Mixing rule of runs with hostile nodes, such as trimmed:size=10,cut=0.2. Default:
    that of a run over a network."""
    silence: bool = True
    """Whether to measure what silent nodes cost."""
    verbose: bool = False
    """Show the log of the server."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_positive(self, "hours", "num_updates", "seeds")


class Hostile(NamedTuple):
    """A kind of hostile node.

    Attributes:
      make_spoil: ``make_spoil(seed)`` returns what becomes of a node's model.
      flip: whether it learns wrong labels.
      sends_again: whether it sends its first reply again and again.
    """

    make_spoil: Callable[[int], flower_nodes.Spoil]
    flip: bool = False
    sends_again: bool = False


_HONEST = Hostile(lambda seed: flower_nodes.stay_honest)
HOSTILES: Mapping[str, Hostile] = {
    "nothing: they are honest": _HONEST,
    "not a number": Hostile(lambda seed: flower_nodes.send_nan),
    "an old reply, sent again": _HONEST._replace(sends_again=True),
    "a jump of norm 999": Hostile(lambda seed: flower_nodes.make_jump(999, seed)),
    "a jump of norm 20": Hostile(lambda seed: flower_nodes.make_jump(20, seed)),
    "a jump of norm 5": Hostile(lambda seed: flower_nodes.make_jump(5, seed)),
    "its step, times -30": Hostile(lambda seed: flower_nodes.make_stretch(-30)),
    "its step, times -5": Hostile(lambda seed: flower_nodes.make_stretch(-5)),
    "its step, sign flipped": Hostile(lambda seed: flower_nodes.make_stretch(-1)),
    "labels flipped": _HONEST._replace(flip=True),
    "its first model, stamped anew": Hostile(lambda seed: flower_nodes.make_repeat()),
}


def main() -> None:
    """Attack and print."""
    flags = parse_flags(Flags, __doc__ or "")
    if not flags.verbose:
        logging.getLogger("flwr").setLevel(logging.ERROR)
    console = Console()
    if flags.silence:
        console.print(measure_silence(flags.hours * 3600))
    console.print(measure_hostility(flags))


def measure_silence(seconds: float) -> Table:
    """Return what silent nodes cost."""
    table = Table(title=f"{_NUM_HONEST} honest nodes of {_TASK_SECONDS:g} s a task")
    for name in ("silent", "limits", "updates", "share", "longest pause", "tasks lost"):
        table.add_column(name, justify="left" if name == "limits" else "right")
    undisturbed = 0
    for num_silent in _SILENT:
        for name, limits in (("deadlines", DEADLINES_ALONE), ("default", {})):
            server = run_with_silent(num_silent, seconds, limits)
            undisturbed = undisturbed or len(server.arrivals)
            times = [0.0, *(a.arrival_time for a in server.arrivals), seconds]
            table.add_row(
                str(num_silent),
                name,
                f"{len(server.arrivals):,}",
                f"{len(server.arrivals) / undisturbed:.1%}",
                f"{np.diff(times).max():.1f} s",
                f"{len(server.books()[0])}",
            )
    return table


def run_with_silent(
    num_silent: int, seconds: float, limits: Mapping[str, object] = {}
) -> Server:
    """Run for so many simulated seconds; return the server."""
    model = Variables({"w": np.ones(3, np.float32)})
    honest = flower_nodes.make_counter(model)
    answers = [honest] * _NUM_HONEST + [flower_nodes.keep_silent] * num_silent
    nodes = {
        number: SimulatedNode(answer, lambda: _TASK_SECONDS)
        for number, answer in enumerate(answers, start=1)
    }
    settings = read_settings({"method": "fedasync-polynomial", **limits})
    updater = Updater(rule_of(settings.settings).mixer, model)
    run = _make_run(nodes, updater, settings.limits, 0)
    _drive(run, seconds=seconds)
    return run.server


class Outcome(NamedTuple):
    """What came of a run with hostile nodes.

    Attributes:
      accuracy: mean of the last evaluations.
      mixed: replies of hostile nodes that were mixed.
      refused: replies of hostile nodes that were not.
      blamed: bad replies that were counted of honest nodes.
    """

    accuracy: float
    mixed: int
    refused: int
    blamed: int


def measure_hostility(flags: Flags) -> Table:
    """Return what hostile nodes cost."""
    title = f"{_NUM_HOSTILE} of {_NUM_CLIENTS} hostile, {flags.num_updates} updates"
    title += f", {flags.partition}"
    title += f"({flags.concentration:g})" if flags.partition == "dirichlet" else ""
    title += "" if flags.method is None else f", {flags.method}"
    table = Table(title=title)
    for name in ("hostile nodes send", "accuracy", "cost", "mixed", "refused"):
        table.add_column(name, justify="left" if name[0] == "h" else "right")
    table.add_column("honest refused", justify="right")
    alone = 0.0
    for name in ("nothing: they are not there", *HOSTILES):
        runs = [run_with_hostile(name, flags, seed) for seed in range(flags.seeds)]
        accuracy, mixed, refused, blamed = np.mean(runs, axis=0)
        alone = alone or accuracy
        cost = f"{100 * (alone - accuracy):.1f}"
        counts = (f"{mixed:.0f}", f"{refused:.0f}", f"{blamed:.0f}")
        table.add_row(name, f"{accuracy:.1%}", cost, *counts)
    return table


def run_with_hostile(name: str, flags: Flags, seed: int) -> Outcome:
    """Run with nodes of one kind of ``HOSTILES``, or without if it is none of them."""
    num_updates = flags.num_updates
    rule = {} if flags.method is None else {"method": flags.method}
    network = read_settings(
        rule
        | {
            "num-updates": num_updates,
            "num-clients": _NUM_CLIENTS,
            "partition": flags.partition,
            "concentration": flags.concentration,
            "epochs": 1.0,
            "step-size": 0.2,
            "alpha": 0.6,
            "seed": seed,
            "clip-norm-ratio": flags.clip_norm_ratio,
        }
    )
    digits = flower_nodes.DigitsNodes(network.settings)
    rng = np.random.default_rng(seed)
    answers = {}
    for part in range(_NUM_CLIENTS):
        if part >= _NUM_HOSTILE:
            answers[part] = digits.make_node(part, flower_nodes.stay_honest)
        elif name in HOSTILES:
            kind = HOSTILES[name]
            spoil = kind.make_spoil(1000 * seed + part)
            answer = digits.make_node(part, spoil, flip=kind.flip)
            again = flower_nodes.replay_reply
            answers[part] = again(answer) if kind.sends_again else answer
    nodes = {
        part + 1: SimulatedNode(answer, lambda: _TASK_SECONDS * rng.lognormal(0, 0.5))
        for part, answer in answers.items()
    }
    updater = Updater(rule_of(network.settings).mixer, digits.variables)
    run = _make_run(nodes, updater, network.limits, seed)
    server = run.server
    accuracies = [0.0]
    watch = Explosions(network.limits.max_undos, updater.newest)
    watch.note_loss(float(digits.workload.evaluate(digits.variables)["loss"]))

    def note_update() -> None:
        newest = updater.newest
        if newest.version % _EVAL_EVERY:
            return
        metrics = digits.workload.evaluate(newest.variables)
        loss = float(metrics["loss"])
        if watch.num_left and watch.is_exploded(loss):
            watch.num_left -= 1
            server.go_back(watch.good)
            return
        watch.good = newest
        watch.note_loss(loss)
        accuracies.append(float(metrics["correct"]))

    _drive(run, num_updates=num_updates, on_update=note_update)
    clients = server.coordinator.nodes
    hostile = {c for c, node in enumerate(clients) if node <= _NUM_HOSTILE}
    bad = [row.task.client for row in server.books()[0] if row.is_bad]
    return Outcome(
        float(np.mean(accuracies[-_NUM_LAST:])),
        sum(arrival.client in hostile for arrival in server.arrivals),
        sum(client in hostile for client in bad),
        sum(client not in hostile for client in bad),
    )


class _Run(NamedTuple):
    """A server and the network that it is connected to."""

    server: Server
    grid: SimulatedGrid


def _make_run(
    nodes: Mapping[int, SimulatedNode], updater: Updater, limits: Limits, seed: int
) -> _Run:
    grid = SimulatedGrid(nodes, limits.poll_seconds)
    coordinator = Coordinator(limits, np.random.default_rng(seed))
    network = NodeNetwork(grid)  # pyright: ignore[reportArgumentType]
    return _Run(Server(network, coordinator, updater, limits, grid.now), grid)


def _drive(
    run: _Run,
    *,
    seconds: float = _FOREVER,
    num_updates: int = 10**9,
    on_update: Callable[[], None] = lambda: None,
) -> None:
    """Let a server and its nodes take their turns until time or work is over."""
    server, grid = run
    while grid.now() <= seconds and server.updater.newest.version < num_updates:
        server.collect(num_updates, on_update)
        server.give_out()
        grid.ticks += 1


if __name__ == "__main__":
    main()
