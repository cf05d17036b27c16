"""Metrics for MLflow: a run per method, steps are versions.

``MLFLOW_TRACKING_URI`` says where they go; without it, into ``mlflow.db`` in the
working folder, as MLflow has it: a file that ``mlflow ui`` shows without a network.
"""

import time
from collections.abc import Mapping

from fedasync_jax.jobs.loggers.identity_file import read_service_id, write_service_id
from fedasync_jax.jobs.loggers.protocol import LoggedRun

_SERVICE = "mlflow"
_MOST = 100  # settings in a call


class MLflow:
    """Writes every number of every line of metrics; a run that goes on appends."""

    def __init__(self, experiment: str = "fedasync"):
        """Write into ``experiment``.

        Raises:
          ModuleNotFoundError: if the extra ``mlflow`` is not installed.
        """
        from mlflow import (  # pyright: ignore[reportMissingImports]
            MlflowClient,
            entities,
        )

        self._make_client, self._entities = MlflowClient, entities
        self._experiment, self._run_id = experiment, ""

    def start(self, run: LoggedRun) -> None:
        """Begin a run, or go on with it."""
        self._client = self._make_client()
        known = read_service_id(run, _SERVICE)
        if known is not None:
            self._client.update_run(known, status="RUNNING")
        self._run_id = known or self._create_run(run)

    def _create_run(self, run: LoggedRun) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        experiment = (
            self._client.create_experiment(self._experiment)
            if found is None
            else found.experiment_id
        )
        created = self._client.create_run(
            experiment,
            run_name=f"{run.name} {run.method}",
            tags={"job": run.name, "method": run.method},
        )
        run_id = created.info.run_id
        settings = {name: str(value) for name, value in run.settings.items()}
        params = [self._entities.Param(*pair) for pair in settings.items()]
        for first in range(0, len(params), _MOST):
            self._client.log_batch(run_id, params=params[first : first + _MOST])
        write_service_id(run, _SERVICE, run_id)
        return run_id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line."""
        now = int(1000 * time.time())
        metrics = [
            self._entities.Metric(name, float(value), now, step)
            for name, value in values.items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def finish(self) -> None:
        """Say that it is done."""
        self._client.set_terminated(self._run_id)
