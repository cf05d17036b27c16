"""One call for everything: from settings, and objects of one's own, to results."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedasync_jax.base import ClientData, Mixer, Model, PyTree
from fedasync_jax.data.dataset import Dataset
from fedasync_jax.engine.processes import find_processes
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.own import NOTHING_OWN, OwnParts, check_own, fit_settings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.fleet.devices import Fleet
from fedasync_jax.jobs.agreement import (
    build_in_all,
    check_goes_on_in_all,
    check_same_settings,
    open_run_folder,
)
from fedasync_jax.jobs.callbacks import Callback
from fedasync_jax.jobs.cores import use_all_cores
from fedasync_jax.jobs.identity import identify, identify_settings
from fedasync_jax.jobs.job import run_in_memory, run_job
from fedasync_jax.jobs.loggers.protocol import Logger, LoggerCallback
from fedasync_jax.jobs.machine import describe_origin
from fedasync_jax.jobs.results import TrainResults


def train(
    settings: Settings | None = None,
    *,
    model: Model | None = None,
    data: Dataset | None = None,
    clients: ClientData | None = None,
    test: PyTree | None = None,
    methods: Sequence[str | tuple[str, Mixer]] | None = None,
    fleet: Fleet | None = None,
    unroll: bool = False,
    progress: bool = False,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> TrainResults:
    """Compare methods on one problem and one fleet, as ``fedasync train`` does.

    Everything that is not given comes from the settings. Nothing is written, unless
    ``settings.run.run_dir`` names a folder: a run that was interrupted goes on there.
    If JAX has used no device yet, all cores of the CPU become devices (see
    ``jobs.cores.use_all_cores``).

    After ``jax.distributed.initialize()`` all processes must call it with the same
    arguments. They share the work and get the same results; process 0 alone writes and
    tells the callbacks.

    Args:
      settings: names and numbers, see ``make_settings``; default: its default.
      model: what is trained, with its loss and its metrics. ``metrics`` must return
        the sums ``"loss"`` and ``"count"``, and ``"correct"`` where there is an
        accuracy.
      data: train and test samples, dealt to clients as the settings say.
      clients: train samples that have their owners already; together with ``model``
        and ``test``. Their number replaces ``num_clients``.
      test: pytree of arrays [N, ...], the test set of ``clients``.
      methods: what is run, in this order: names as in the settings, and rules of one's
        own, each a name with a ``Mixer``, such as ``("mine", my_rule)``.
      fleet: the devices. Their number replaces ``num_clients``.
      unroll: whether the local steps of ``model`` are written out, as convolutions on
        a CPU must be to be fast; where all tasks have the same 20 steps or fewer.
      progress: whether to tell on stdout how it goes: a moving line on a terminal,
        lines now and then in a notebook or a file.
      callbacks: who else is told, see ``Callback``.
      loggers: where metrics go as well, see ``Logger``; one that fails ends with a
        warning, and the run goes on.

    Raises:
      OSError: if something cannot be written.
      ProcessFailed: of several processes, if another one cannot go on.
      ValueError: in one line, if settings, data and objects do not go together, the
        folder holds another run, or several processes were given different settings.

    Returns:
      The results by method; methods whose arrivals were all rejected are not among
      them, but in ``diverged``.
    """
    use_all_cores()
    settings = settings or Settings()
    own = OwnParts(model, data, clients, test, methods, fleet, unroll)
    with contextlib.ExitStack() as stack:
        if progress:
            line = stack.enter_context(_make_progress())
            callbacks = [line, *callbacks]
        return run_settings(
            settings,
            own,
            run_dir=settings.run.run_dir,
            callbacks=callbacks,
            loggers=loggers,
        )


def run_settings(
    settings: Settings,
    own: OwnParts = NOTHING_OWN,
    *,
    run_dir: Path | None = None,
    config: Mapping[str, Any] | None = None,
    on_begin: Callable[[Experiment], None] = lambda experiment: None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    warn: Callable[[str], None] = warnings.warn,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResults:
    """Build an experiment and run its methods, in a folder or without.

    Args:
      settings: names and numbers.
      own: objects in the place of what the settings would make.
      run_dir: where to write to; None: nowhere.
      config: what else goes into ``config.json``: ``preset`` and ``fleet``, the names
        that the settings began with.
      on_begin: called when everything is built and nothing is trained yet.
      callbacks: who is told.
      loggers: see ``train``.
      warn: receives a line if a logger fails.
      should_stop: asked after every call of the device.

    Raises:
      OSError: if something cannot be written.
      Stopped: if it was asked to, after a checkpoint if there is a folder.
      ValueError: see ``train``.
    """

    def listen(settings: Settings) -> list[Callback]:
        """Return who is told; of several processes, only process 0 tells anybody."""
        if not find_processes().is_first:
            return []
        return [*callbacks, *_wrap_loggers(loggers, warn, settings, run_dir)]

    with find_processes().together():
        return _run_here(settings, own, run_dir, config, on_begin, listen, should_stop)


def _run_here(
    settings: Settings,
    own: OwnParts,
    run_dir: Path | None,
    config: Mapping[str, Any] | None,
    on_begin: Callable[[Experiment], None],
    listen: Callable[[Settings], Sequence[Callback]],
    should_stop: Callable[[], bool],
) -> TrainResults:
    """Do what ``run_settings`` does, as one of several processes."""
    check_own(own)
    settings = fit_settings(settings, own)
    check_same_settings(settings)
    callbacks = listen(settings)
    if run_dir is None:
        built = build_in_all(lambda: build_experiment(settings, own))
        on_begin(built)
        ended = run_in_memory(built, callbacks=callbacks, should_stop=should_stop)
        return TrainResults(built, *ended)
    check_goes_on_in_all(run_dir, identify_settings(settings))
    built = build_in_all(lambda: build_experiment(settings, own))
    about = {
        "preset": "digits",
        "fleet": None,
        **(config or {}),
        "settings": built.settings.to_json(),
        **({"own": own.names} if own.names else {}),
        **describe_origin(),
    }
    with open_run_folder(run_dir, about, identify(built)) as folder:
        on_begin(built)
        ended = run_job(built, folder, callbacks=callbacks, should_stop=should_stop)
    return TrainResults(built, *ended, folder.path)


def _wrap_loggers(
    loggers: Sequence[Logger],
    warn: Callable[[str], None],
    settings: Settings,
    run_dir: Path | None,
) -> list[Callback]:
    return [
        LoggerCallback(logger, warn, settings=settings.to_json(), folder=run_dir)
        for logger in loggers
    ]


def _make_progress() -> Any:
    from rich.console import Console

    from fedasync_jax.jobs.progress import ProgressLine

    # A notebook says that it has colours, and rich takes it for a terminal.
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return ProgressLine(Console(force_jupyter=False, force_terminal=is_terminal))
