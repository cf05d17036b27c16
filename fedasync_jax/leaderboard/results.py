"""The runs of a leaderboard as lines of a CSV file, one written after the other.

The file is also what a leaderboard goes on from: a run whose line is there is not run
again. A last line that was cut off by a kill is left out and written anew.
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from fedasync_jax.leaderboard.entries import OWN, Contender
from fedasync_jax.parts.bounds import shorten
from fedasync_jax.parts.files import open_regular
from fedasync_jax.storage.writing import write_file

_ENTRIES = "entries.json"


class Ran(NamedTuple):
    """A run and what came of it.

    Attributes:
      protocol: see ``board.find_protocol``.
      fleet: see ``Cell``, as ``in_flight`` and ``variant``.
      in_flight: tasks under way at a time.
      variant: degree of heterogeneity.
      line: the method.
      factor: on the step size of the task.
      seed: of everything random.
      updates: client updates that were mixed.
      valid_accuracy: mean of the last evaluations on the validation samples.
      test_accuracy: likewise, on the test samples.
      time_to_target: simulated seconds to the first evaluation on the test samples that
        reaches the target of the task; None: none did.
      virtual_time: simulated seconds of the whole run.
    """

    protocol: str
    fleet: str
    in_flight: int
    variant: str
    line: str
    factor: float
    seed: int
    updates: int
    valid_accuracy: float
    test_accuracy: float
    time_to_target: float | None
    virtual_time: float

    @property
    def key(self) -> tuple:
        """What was run, without what came of it."""
        return self[1:7]


def read_results(path: Path, protocol: str) -> list[Ran]:
    """Read the lines of a file; of none, no line.

    Args:
      path: the file.
      protocol: of the task as it is now.

    Raises:
      OSError: if it cannot be read.
      ValueError: in one line, if a line is not one of results, or was made with other
        settings.
    """
    if not path.exists():
        return []
    with open_regular(path) as file:
        text = file.read().decode("utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(whole)))
    if rows and rows[0] != list(Ran._fields):
        raise ValueError(
            f"{path}: must begin with the columns {', '.join(Ran._fields)}"
        )
    results = [_parse(path, n, row) for n, row in enumerate(rows[1:], start=2)]
    for number, result in enumerate(results, start=2):
        if result.protocol != protocol:
            raise ValueError(
                f"{path}: line {number} was made with other settings of the task "
                f"(protocol {result.protocol}, now {protocol}); choose another --out"
            )
    return results


def append_results(path: Path, results: Iterable[Ran]) -> None:
    """Write lines behind those that are there, and force them to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    with open(path, "a+b") as file:
        _cut_off(file)
        if not file.tell():
            writer.writerow(Ran._fields)
        for result in results:
            writer.writerow(["" if value is None else value for value in result])
        file.write(text.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())


def _cut_off(file: io.BufferedRandom) -> None:
    """Leave out a last line that has no end."""
    file.seek(0)
    end = file.read().rfind(b"\n") + 1
    file.truncate(end)
    file.seek(end)


def _parse(path: Path, number: int, row: list[str]) -> Ran:
    try:
        protocol, fleet, in_flight, variant, line, factor, seed, *came = row
        updates, valid, test, reached, virtual_time = came
        return Ran(
            protocol,
            fleet,
            int(in_flight),
            variant,
            line,
            float(factor),
            int(seed),
            int(updates),
            float(valid),
            float(test),
            float(reached) if reached else None,
            float(virtual_time),
        )
    except ValueError as error:
        raise ValueError(
            f"{path}: line {number} must be one of results, got "
            f"{shorten(','.join(row))!r}"
        ) from error


def read_entries(folder: Path) -> dict[str, Contender]:
    """Return the methods that users have entered, by name.

    Raises:
      OSError: if their file cannot be read.
      ValueError: in one line, if it is damaged.
    """
    path = folder / _ENTRIES
    if not path.exists():
        return {}
    with open_regular(path) as file:
        try:
            entered = msgspec.json.decode(file.read(), type=dict[str, list[str]])
        except msgspec.DecodeError as error:
            raise ValueError(f"{path}: {shorten(str(error))}") from error
    return {name: Contender(OWN, lines) for name, lines in entered.items()}


def write_entries(folder: Path, entries: Mapping[str, Contender]) -> None:
    """Write the methods that users have entered."""
    entered = {name: list(entry.lines) for name, entry in entries.items()}
    write_file(folder / _ENTRIES, msgspec.json.encode(entered))
