"""The run folder of a process that writes nothing, as another one does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedasync_jax.base import ArrayLike
from fedasync_jax.storage.fingerprint import Fingerprint
from fedasync_jax.storage.run_folder import Row, RunFolder


class SilentFolder(RunFolder):
    """A run folder that need not be there and that nothing is written to.

    Of several processes, process 0 has the run folder and the others have this.
    """

    writes = False

    def __init__(self, path: str | Path, fingerprint: Fingerprint):
        """Stand in for the folder at ``path``."""
        self.path, self.fingerprint = Path(path), fingerprint
        self.notes = []
        self._lock = None

    def begin_sitting(self, method: str, version: int) -> None:
        """Write nothing."""

    def add_metrics(self, row: Row) -> None:
        """Write nothing."""

    def write_summary(self, rows: Sequence[Row]) -> None:
        """Write nothing."""

    def write_arrays(self, name: str, arrays: Mapping[str, ArrayLike]) -> None:
        """Write nothing."""

    def write_facts(self, method: str, *, is_async: bool) -> None:
        """Write nothing."""

    def write_method(self, method: str, **archives: Mapping[str, Any]) -> None:
        """Write nothing."""
