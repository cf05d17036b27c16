"""Recorded fleets from files: when devices were available, how fast they are.

Tables in CSV, plain, .xz or .gz, with a header, or in Parquet. What is wrong in one is
said in one line, with the place. Times are seconds.

Shapes: W windows, C clients, n rows.
"""

import csv
import gzip
import io
import itertools
import lzma
import math
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fedasync_jax.parts.bounds import INT32_MAX, shorten, show_value
from fedasync_jax.parts.files import open_regular, read_at_most
from fedasync_jax.parts.memory import check_fits

_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".xz": lzma.LZMAFile,
}
_BLOCK = 1024  # lines that are text at a time, for the size of the caches


def read_windows(
    path: str | os.PathLike[str], num_clients: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read when clients were available: columns client, start, end.

    Other columns are ignored.

    Args:
      path: of a CSV or Parquet file (``.parquet``).
      num_clients: C.

    Raises:
      ValueError: in one line, if the file or a column is missing, a client is not in
        0..C-1, ``start`` is not finite and >= 0 or ``end`` is not > ``start``.

    Returns:
      client int64 [W], start float64 [W], end float64 [W] (inf: for good), in the order
      of the file.
    """
    table = _read_table(Path(path), ("client", "start", "end"))
    client, start, end = table.columns.values()
    _check_client(table, num_clients)
    timely = (start >= 0) & (start < math.inf)
    table.require("start", timely, "finite and >= 0")
    table.require("end", end > start, "> start")
    return client.astype(np.int64), start, end


def read_speeds(path: str | os.PathLike[str], num_clients: int) -> np.ndarray:
    """Read how fast clients are: columns client, seconds_per_step.

    Other columns are ignored.

    Args:
      path: of a CSV or Parquet file (``.parquet``).
      num_clients: C; every client stands in exactly one row.

    Raises:
      ValueError: in one line, if the file or a column is missing, a client is not in
        0..C-1, missing or there twice, or a time is not finite and > 0.

    Returns:
      Seconds of one local step, float64 [C].
    """
    table = _read_table(Path(path), ("client", "seconds_per_step"))
    column, seconds = table.columns.values()
    _check_client(table, num_clients)
    positive = (seconds > 0) & (seconds < math.inf)
    table.require("seconds_per_step", positive, "finite and > 0")
    client = column.astype(np.int64)
    order = np.argsort(client, kind="stable")
    again = np.flatnonzero(np.diff(client[order]) == 0)
    if again.size:
        before, row = order[again[0] : again[0] + 2].tolist()
        place = f"{table.unit} {table.line[before]}"
        table.refuse(row, "client", f"there once, {place} has the same")
    missing = np.setdiff1d(np.arange(num_clients), client)
    if missing.size:
        raise ValueError(
            f"{path}: column client: must hold every client in 0..{num_clients - 1}, "
            f"{missing.size} missing, the first is {missing[0]}"
        )
    return seconds[order]


class _Table(NamedTuple):
    """Columns of numbers and where they stand.

    Attributes:
      path: of the file.
      columns: float64 [n] each, in the order asked for.
      line: int64 [n].
      unit: what is counted in ``line``: "line" from 1, or "row" from 0.
    """

    path: Path
    columns: dict[str, np.ndarray]
    line: np.ndarray
    unit: str

    def require(self, column: str, right: np.ndarray, allowed: str) -> None:
        """Refuse the first number that is not right; ``right`` is bool [n]."""
        if not right.all():
            self.refuse(int(np.argmin(right)), column, allowed)

    def refuse(self, row: int, column: str, allowed: str) -> None:
        """Raise the error of one number."""
        raise ValueError(
            f"{self.path}: {self.unit} {self.line[row]}, column {column}: must be "
            f"{allowed}, got {self.columns[column][row]:.15g}"
        )


def _check_client(table: _Table, num_clients: int) -> None:
    client = table.columns["client"]
    known = (client >= 0) & (client < num_clients) & (client == np.floor(client))
    table.require("client", known, f"an integer in 0..{num_clients - 1}")


def _read_table(path: Path, names: Sequence[str]) -> _Table:
    if path.suffix == ".parquet":
        return _read_parquet(path, names)
    return _read_csv(path, names)


def _read_text(path: Path) -> str:
    """Return a file in UTF-8, plain, .gz or .xz, without Excel's byte order mark."""
    open_stream = _OPENERS.get(path.suffix, lambda file: file)
    try:
        with open_regular(path) as stored, open_stream(stored) as stream:
            return read_at_most(stream, INT32_MAX).decode("utf-8-sig")
    # A UnicodeError is a ValueError.
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = shorten(f"{type(error).__name__}: {error}")
    return ValueError(f"{path}: cannot be read ({reason})")


def _read_csv(path: Path, names: Sequence[str]) -> _Table:
    reader = csv.reader(io.StringIO(_read_text(path), newline=""))
    lines = [np.zeros(0, np.int64)]
    blocks = {name: [np.zeros(0)] for name in names}
    try:
        header = [name.strip() for name in next(reader, [])]
        _require_columns(path, names, header)
        numbered = ((reader.line_num, row) for row in reader if row)
        while block := list(itertools.islice(numbered, _BLOCK)):
            lines.append(np.array([line for line, _ in block]))
            for name in names:
                blocks[name].append(_to_numbers(path, block, name, header.index(name)))
    except csv.Error as error:
        raise ValueError(
            f"{path}: line {reader.line_num}: {shorten(str(error))}"
        ) from error
    columns = {name: np.concatenate(blocks[name]) for name in names}
    return _Table(path, columns, np.concatenate(lines), "line")


def _to_numbers(
    path: Path, block: list[tuple[int, list[str]]], name: str, place: int
) -> np.ndarray:
    """Return one column of some lines, float64."""
    try:
        return np.array([float(row[place]) for _, row in block])
    except (ValueError, IndexError):
        pass  # the rare case looks for the line
    for line, row in block:
        cell = row[place] if place < len(row) else ""
        try:
            float(cell)
        except ValueError:
            raise ValueError(
                f"{path}: line {line}, column {name}: must be a number, "
                f"got {show_value(cell)}"
            ) from None
    raise AssertionError("one of them is no number")


def _read_parquet(path: Path, names: Sequence[str]) -> _Table:
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"{path}: Parquet is read with the package pyarrow (pip install pyarrow)"
        ) from error
    try:
        with open_regular(path) as stored, parquet.ParquetFile(stored) as file:
            header = file.schema_arrow.names
            rows = file.metadata.num_rows if set(names) <= set(header) else 0
            # Repeated values take next to no place in the file.
            check_fits("num_rows", rows, 8 * len(names) * rows)
            read = file.read(columns=list(names)) if rows else None
    # A damaged file raises any of a dozen types.
    except Exception as error:
        raise _unreadable(path, error) from error
    _require_columns(path, names, header)
    if read is None:
        return _Table(path, {n: np.zeros(0) for n in names}, np.zeros(0, int), "row")
    columns = {}
    for name in names:
        column = read.column(name).to_numpy()  # what is missing becomes NaN
        if column.dtype.kind not in "iuf":
            kind = read.schema.field(name).type
            raise ValueError(f"{path}: column {name}: must hold numbers, holds {kind}")
        columns[name] = column.astype(np.float64)
    return _Table(path, columns, np.arange(read.num_rows), "row")


def _require_columns(path: Path, names: Sequence[str], header: Sequence[str]) -> None:
    for name in names:
        if name not in header:
            shown = ", ".join(header)
            note = " (they are separated by commas)" if set(shown) & {";", "\t"} else ""
            raise ValueError(
                f"{path}: must have the columns {', '.join(names)}{note}; no {name} in "
                f"{show_value(shown)}"
            )
