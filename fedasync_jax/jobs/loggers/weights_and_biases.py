"""Metrics for Weights & Biases: a run per method, grouped by job, steps are versions.

Environment variables choose the rest, as WANDB_MODE=offline does without a network.
"""

from collections.abc import Mapping
from typing import Any

from fedasync_jax.jobs.loggers.identity_file import read_service_id, write_service_id
from fedasync_jax.jobs.loggers.protocol import LoggedRun

_SERVICE = "wandb"


class WeightsAndBiases:
    """Writes every number of every line of metrics; a run that goes on appends."""

    def __init__(self, project: str = "fedasync"):
        """Write into ``project``.

        Raises:
          ModuleNotFoundError: if the extra ``wandb`` is not installed.
        """
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb, self._project = wandb, project
        self._run: Any = None

    def start(self, run: LoggedRun) -> None:
        """Begin a run, or go on with it."""
        known = read_service_id(run, _SERVICE)
        self._run = self._wandb.init(
            project=self._project,
            group=run.name,
            name=f"{run.name} {run.method}",
            id=known,
            resume=None if known is None else "allow",
            config={"method": run.method, **run.settings},
            dir=None if run.folder is None else str(run.folder),
            settings=self._wandb.Settings(silent=True, console="off"),
        )
        write_service_id(run, _SERVICE, self._run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line."""
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        """Send what is left."""
        self._run.finish()
