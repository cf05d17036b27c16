"""A logger, whatever it writes to; one that fails is left out and the run goes on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.callbacks import Callback, Outcome
from fedasync_jax.jobs.metrics import Row


class LoggedRun(NamedTuple):
    """What a logger is told of a method that begins, or goes on.

    Attributes:
      method: its name.
      name: of the job: that of its folder, or of its data set.
      settings: of the job, by their flat names, as JSON values.
      version: where it goes on; 0: at the beginning.
      folder: of the job; None: it has none.
    """

    method: str
    name: str
    settings: Mapping[str, Any]
    version: int
    folder: Path | None


class Logger(Protocol):
    """Writes the metrics of methods, which run one after the other.

    Of a run that goes on, it is told what is new; all of it once more if it has an
    attribute ``tells_again`` that is true.
    """

    def start(self, run: LoggedRun) -> None:
        """A method begins, or goes on after an interruption."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """There is an evaluation.

        Args:
          step: the version.
          values: numbers by name, those of a line of ``metrics.jsonl``.
        """
        ...

    def finish(self) -> None:
        """The method is done, or was stopped."""
        ...


class LoggerCallback(Callback):
    """Tells a logger how methods go, until it fails."""

    def __init__(
        self,
        logger: Logger,
        warn: Callable[[str], None],
        *,
        settings: Mapping[str, Any],
        folder: Path | None = None,
    ):
        """Tell ``logger``.

        Args:
          logger: who is told.
          warn: receives one line if it raises; it is then told no more.
          settings: see ``LoggedRun``.
          folder: see ``LoggedRun``.
        """
        self._logger, self._warn = logger, warn
        self._settings, self._folder = settings, folder
        self._tells_again = getattr(logger, "tells_again", False)
        self._has_failed = self._is_open = False

    def on_restore(self, method: Method, version: int) -> None:
        """Begin."""
        name = str(self._settings.get("dataset", "run"))
        if self._folder is not None:
            name = self._folder.resolve().name
        run = LoggedRun(method.name, name, self._settings, version, self._folder)
        self._try(lambda: self._logger.start(run))
        self._is_open = True

    def on_metrics(self, method: Method, row: Row, *, again: bool) -> None:
        """Tell a line of metrics."""
        del method
        if again and not self._tells_again:
            return
        values = {
            name: value
            for name, value in row.items()
            if isinstance(value, int | float) and name != "version"
        }
        self._try(lambda: self._logger.log(row["version"], values))

    def on_end(self, outcome: Outcome) -> None:
        """Finish."""
        self._finish()

    def on_stop(self, method: Method, reason: str) -> None:
        """Finish."""
        self._finish()

    def _finish(self) -> None:
        if self._is_open:
            self._try(self._logger.finish)
        self._is_open = False

    def _try(self, call: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            call()
        except Exception as error:  # of a network, a service, the user's own logger
            self._has_failed = True
            reason = " ".join(str(error).split())[:160]
            self._warn(
                f"{type(self._logger).__name__} is told no more, the run goes on: "
                f"{type(error).__name__} {reason}".rstrip()
            )
