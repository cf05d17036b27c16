"""Loggers by the names that people type."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from fedasync_jax.jobs.loggers.mlflow_tracking import MLflow
from fedasync_jax.jobs.loggers.names import LOGGER_NAMES
from fedasync_jax.jobs.loggers.protocol import Logger
from fedasync_jax.jobs.loggers.tensorboard import TensorBoard
from fedasync_jax.jobs.loggers.weights_and_biases import WeightsAndBiases

_MAKERS: Sequence[Callable[[Path], Logger]] = (
    lambda folder: TensorBoard(folder / "tensorboard"),
    lambda folder: WeightsAndBiases(),
    lambda folder: MLflow(),
)
LOGGERS = dict(zip(LOGGER_NAMES, _MAKERS, strict=True))


def make_loggers(names: Sequence[str], folder: Path) -> list[Logger]:
    """Return loggers of a job in a folder.

    Raises:
      ValueError: in one line, if a name is unknown or its package is not installed.
    """
    return list(_make_all(dict.fromkeys(names), folder))


def _make_all(names: Mapping[str, None], folder: Path) -> Iterator[Logger]:
    for name in names:
        if name not in LOGGERS:
            known = ", ".join(LOGGERS)
            raise ValueError(f"log_to must be one of {known}, got {name!r}")
        try:
            yield LOGGERS[name](folder)
        except ModuleNotFoundError as error:
            raise ValueError(
                f'log_to {name} needs its package (pip install ".[{name}]" in a '
                f"checkout), got {error}"
            ) from error
