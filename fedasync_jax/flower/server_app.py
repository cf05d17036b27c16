"""The ServerApp: FedAsync over a network, with the run folder of a simulation."""

import contextlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fedasync_jax.base import Array, Model, PyTree, Variables
from fedasync_jax.engine.history import Past, Updates
from fedasync_jax.engine.state import RunState, Snapshot
from fedasync_jax.experiment.build import build_workload
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.flower import adapter, arrays, record
from fedasync_jax.flower.adapter import Context, NodeNetwork, ServerApp
from fedasync_jax.flower.coordinator import Coordinator
from fedasync_jax.flower.exposure import find_exposure
from fedasync_jax.flower.server import Server
from fedasync_jax.flower.settings import NetworkSettings, read_settings, rule_of
from fedasync_jax.flower.updater import Newest, Updater
from fedasync_jax.jobs.metrics import score
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.fingerprint import Fingerprint, project
from fedasync_jax.storage.models import save_model
from fedasync_jax.storage.run_folder import RunFolder
from fedasync_jax.worker.evaluation import make_evaluate

_TIMELINES = 30  # clients


class Problem(NamedTuple):
    """What the server needs to know of what is learned.

    Attributes:
      variables: x_0.
      evaluate: metrics of a model, as ``evaluation.make_evaluate`` gives them.
      is_text: whether it is a language model, judged by its perplexity.
    """

    variables: Variables
    evaluate: Callable[[Variables], dict[str, Array]]
    is_text: bool = False


def make_server_app(
    make_model: Callable[[Settings], Model] | None = None,
    load_test_data: Callable[[Context], PyTree] | None = None,
    draw: Callable[[Path], Sequence[Path]] | None = None,
) -> ServerApp:
    """Return the ServerApp of FedAsync.

    Everything else is said by the run config, see ``settings.read_settings``. Results
    go into ``run-dir``; a run that finds an earlier part of itself there goes on.

    Args:
      make_model: ``make_model(settings)`` returns the model; default: that of the data
        set of the settings.
      load_test_data: ``load_test_data(context)`` returns samples to evaluate the model
        on, a pytree of arrays [N, ...]; default: those of the data set of the settings.
      draw: draws a run folder at the end and returns the pictures, as
        ``plotting.draw_run`` does; default: no pictures.

    Raises:
      ValueError: if only one of the first two is given.
    """
    if (make_model is None) != (load_test_data is None):
        raise ValueError("make_model and load_test_data must be given together")

    def main(network: NodeNetwork, context: Context) -> None:
        settings = read_settings(context.run_config)
        is_text = False
        if make_model is None or load_test_data is None:
            workload = build_workload(settings.settings)
            model, evaluate = workload.model, workload.evaluate
            is_text = workload.is_text
        else:
            model = make_model(settings.settings)
            evaluate = make_evaluate(model, load_test_data(context))
        variables = jax.jit(model.init)(settings.settings.make_key("init"))
        path = run_server(network, settings, Problem(variables, evaluate, is_text))
        for picture in draw(path) if draw is not None else ():
            network.tell(f"wrote {picture.absolute()}")

    return adapter.make_server(main)


def run_server(network: NodeNetwork, run: NetworkSettings, problem: Problem) -> Path:
    """Run FedAsync to its end; return the run folder.

    Args:
      network: the nodes.
      run: settings and limits.
      problem: what is learned.

    Raises:
      ValueError: if the run folder holds another run or the model cannot be sent.
    """
    arrays.encode(problem.variables)  # what cannot be sent fails now
    _warn_if_exposed(network)
    name = rule_of(run.settings).name
    every = run.settings.run.checkpoint_every
    with contextlib.ExitStack() as stack:
        path = run.settings.run.run_dir or _new_run_dir()
        config = _describe(run)
        known = Fingerprint(config["settings"], start=project(problem.variables))
        folder = stack.enter_context(RunFolder(path, config, known))
        saved = stack.enter_context(
            Checkpoints(
                folder.checkpoint_folder(name),
                every=every,
                on_skip=network.tell,
                fingerprint=known,
                method=name,
            )
        )
        session = _Session(network, run, problem, folder, saved)
        session.go_on()
        folder.begin_sitting(name, session.server.updater.newest.version)
        session.server.run(run.settings.run.num_updates, session.note_update)
        session.finish()
    return folder.path


class _Session:
    """One run of the server, from its newest checkpoint on."""

    def __init__(
        self,
        network: NodeNetwork,
        run: NetworkSettings,
        problem: Problem,
        folder: RunFolder,
        saved: Checkpoints,
    ):
        rule = rule_of(run.settings)
        self.name, self.network, self.settings = rule.name, network, run.settings
        self.problem, self.folder, self.saved = problem, folder, saved
        self.rows: list[dict[str, Any]] = []
        self.begin = time.monotonic()
        rng = run.settings.make_rng("schedule")
        self.server = Server(
            network,
            Coordinator(run.limits, rng),
            Updater(rule.mixer, problem.variables),
            run.limits,
            self.seconds,
        )

    def seconds(self) -> float:
        """Return the seconds of the run so far."""
        return time.monotonic() - self.begin

    def go_on(self) -> None:
        """Take over the newest checkpoint, if there is one."""
        server, tell = self.server, self.network.tell
        tell(f"{self.name}, run folder {self.folder.path.absolute()}")
        for note in self.folder.notes:
            tell(note)
        found = self.saved.restore(_as_state(server.updater.newest))
        if found is None:
            self.evaluate()
            return
        (state, _), extra = found
        server.updater.newest = Newest(
            state.version, state.variables, state.mixer_state
        )
        server.arrivals += [record.Arrival(*row) for row in extra["arrivals"]]
        server.coordinator.restore(extra["coordinator"])
        self.begin -= extra["seconds"]
        for row in extra["rows"]:
            self.add_row(row)
        tell(f"going on from version {state.version}; lost tasks are given out anew")

    def note_update(self) -> None:
        """Evaluate and save, where due."""
        version, settings = self.server.updater.newest.version, self.settings
        is_last = version == settings.run.num_updates
        if is_last or version % settings.run.eval_every == 0:
            self.evaluate()
        if is_last or version % settings.run.checkpoint_every == 0:
            self.save()

    def evaluate(self) -> None:
        """Evaluate the newest model and write the line."""
        newest, server = self.server.updater.newest, self.server
        before = self.rows[-1]["version"] if self.rows else 0
        row = record.make_row(
            self.name,
            newest.version,
            jax.device_get(self.problem.evaluate(newest.variables)),
            server.arrivals,
            *server.books(),
            newest.version - before,
            is_text=self.problem.is_text,
        )
        self.add_row(row)
        self.network.tell(_describe_row(row, self.settings.run.num_updates))

    def add_row(self, row: dict[str, Any]) -> None:
        """Keep and write a line of metrics."""
        self.rows.append(row)
        self.folder.add_metrics(row)

    def save(self) -> None:
        """Write a checkpoint, in the background."""
        columns = record.arrival_columns(self.server.arrivals)
        updates = Updates(*(columns[name] for name in Updates._fields))
        state = _as_state(self.server.updater.newest)
        extra = {  # copies: it is written while the run goes on
            "arrivals": list(self.server.arrivals),
            "coordinator": self.server.to_json(),
            "rows": list(self.rows),
            "seconds": self.seconds(),
        }
        snapshot = Snapshot(state, Past(updates, []))
        self.saved.save(snapshot, extra, score=score(self.rows[-1]))

    def finish(self) -> None:
        """Write the results."""
        self.saved.wait()
        arrivals, books = self.server.arrivals, self.server.coordinator
        lost = books.lost
        self.folder.write_method(
            self.name,
            updates=record.arrival_columns(arrivals),
            lost=record.lost_columns(lost),
            timeline=record.timeline_columns(arrivals, lost, _TIMELINES),
        )
        newest, row = self.server.updater.newest, self.rows[-1]
        about = {"method": self.name, "version": newest.version, "metrics": row}
        save_model(self.folder.model_folder(self.name), newest.variables, about)
        self.folder.write_arrays(
            "clients.npz", record.client_columns(arrivals, books.nodes)
        )
        self.folder.write_summary([{**row, "wall_seconds": row["virtual_time"]}])


def _as_state(newest: Newest) -> RunState:
    """Return the state as checkpoints know it; tasks in flight are not kept."""
    no_slots = np.zeros((1, 1), np.float32)
    return RunState(newest.version, newest.variables, no_slots, newest.mixer_state)


def _describe(run: NetworkSettings) -> dict[str, Any]:
    packages = ("fedasync-jax", "flwr", "jax")
    versions = {name: importlib.metadata.version(name) for name in packages}
    limits = vars(run.limits)
    return {"settings": run.to_json(), "limits": limits, "versions": versions}


def _describe_row(row: dict[str, Any], num_updates: int) -> str:
    parts = [f"version {row['version']}/{num_updates} at {row['virtual_time']:.0f} s"]
    if row["test_accuracy"] is not None:
        parts.append(f"accuracy {row['test_accuracy']:.1%}")
    if row["test_loss"] is not None:
        parts.append(f"loss {row['test_loss']:.3f}")
    if row["mean_staleness"] is not None:
        parts.append(f"d {row['mean_staleness']:.1f}")
    parts += [f"{count} {cause}" for cause, count in row["causes"].items()]
    return ", ".join(parts)


def _warn_if_exposed(network: NodeNetwork) -> None:
    if network.plain_address is None:
        return
    host = find_exposure(network.plain_address)
    if host is not None:
        network.tell(
            "INSECURE: nothing is encrypted, and other machines reach the SuperLink "
            f"as {host}: they can read the model and join. Start it with certificates "
            "and --enable-supernode-auth, or with --host 127.0.0.1",
            warn=True,
        )


def _new_run_dir() -> Path:
    return Path("runs") / f"flower-{datetime.now():%Y%m%d-%H%M%S-%f}"
