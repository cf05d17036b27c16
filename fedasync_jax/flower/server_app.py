"""The ServerApp: FedAsync over a network, with the run folder of a simulation."""

import contextlib
import importlib.metadata
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jax

from fedasync_jax.base import Model, PyTree
from fedasync_jax.experiment.build import build_workload
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.flower import adapter, arrays
from fedasync_jax.flower.adapter import Context, NodeNetwork, ServerApp
from fedasync_jax.flower.exposure import find_exposure
from fedasync_jax.flower.session import Problem, ServerSession
from fedasync_jax.flower.settings import NetworkSettings, read_settings, rule_of
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.fingerprint import Fingerprint, project
from fedasync_jax.storage.run_folder import RunFolder
from fedasync_jax.worker.evaluation import make_evaluate


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
      ConnectionError: if the network is gone or hangs; the newest model is saved.
    """
    network.limit_calls(run.limits.hang_seconds)
    arrays.encode(problem.variables)  # what cannot be sent fails now
    _warn_if_exposed(network)
    name = rule_of(run.settings).name
    every = run.settings.run.checkpoint_every
    with contextlib.ExitStack() as stack:
        path = run.settings.run.run_dir or _new_run_dir()
        config = _describe(run)
        known = Fingerprint(
            config["settings"], initial_model=project(problem.variables)
        )
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
        session = ServerSession(network, run, problem, folder, saved)
        session.go_on()
        folder.begin_sitting(name, session.server.updater.newest.version)
        try:
            session.server.run(run.settings.run.num_updates, session.note_update)
        except Exception as error:
            network.tell(f"the run ends: {error}", warn=True)
            with contextlib.suppress(OSError):  # the first error is the one to tell
                session.save_last()
            raise
        session.finish()
    return folder.path


def _describe(run: NetworkSettings) -> dict[str, Any]:
    packages = ("fedasync-jax", "flwr", "jax")
    versions = {name: importlib.metadata.version(name) for name in packages}
    limits = vars(run.limits)
    return {"settings": run.to_json(), "limits": limits, "versions": versions}


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
