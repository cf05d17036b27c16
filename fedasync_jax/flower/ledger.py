"""A file that rows are appended to, beside checkpoints that say how many of them count.

One row is one line of JSON. A checkpoint keeps the number of rows and their checksum,
so it stays small however long a run is. Rows behind that number, of a time that the
server did not live to save, are cut off and written anew.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedasync_jax.storage.writing import naming, open_own


class Ledger:
    """Rows in a file.

    Attributes:
      path: of the file.
    """

    def __init__(self, path: Path):
        """Name the file; it need not exist."""
        self.path = path
        self.begin_anew()

    def begin_anew(self) -> None:
        """Write all rows anew next time, as some have changed."""
        self._hash = hashlib.sha256()
        self._num_rows = self._num_bytes = 0

    def write(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Bring the file to these rows and force it to the disk.

        What was written before is taken to be the beginning of ``rows``; if there are
        fewer of them, as after a step back, all are written anew.

        Args:
          rows: all rows, as JSON has them.

        Returns:
          What ``read`` needs to know, for a checkpoint.

        Raises:
          OSError: if it cannot be written.
        """
        if len(rows) < self._num_rows:
            self.begin_anew()
        lines = [json.dumps(row) + "\n" for row in rows[self._num_rows :]]
        content = "".join(lines).encode()
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(open_own(self.path), "r+b") as file:
                file.seek(self._num_bytes)
                file.truncate()
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        self._hash.update(content)
        self._num_rows, self._num_bytes = len(rows), self._num_bytes + len(content)
        return {
            "rows": self._num_rows,
            "bytes": self._num_bytes,
            "sha256": self._hash.hexdigest(),
        }

    def read(self, known: dict[str, Any]) -> list[list[Any]]:
        """Return the rows that a checkpoint knows of.

        Args:
          known: what ``write`` returned.

        Raises:
          ValueError: if the file is not as it was then.
        """
        try:
            content = self.path.read_bytes()[: known["bytes"]]
        except OSError as error:
            raise ValueError(
                f"{self.path} must be there to go on, got {error.strerror}"
            ) from error
        self.begin_anew()
        self._hash.update(content)
        if self._hash.hexdigest() != known["sha256"]:
            raise ValueError(
                f"{self.path} must be as the run wrote it, but its checksum differs: "
                "it was edited or damaged"
            )
        self._num_rows, self._num_bytes = known["rows"], known["bytes"]
        return [json.loads(line) for line in content.splitlines()]
