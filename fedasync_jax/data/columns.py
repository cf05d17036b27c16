"""Tables of many kinds as named arrays: CSV, Parquet, pandas, pyarrow, Hugging Face.

The libraries are known by what their objects can do, so that none is imported here but
pyarrow, for a Parquet file.
"""

import csv
import gzip
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedasync_jax.parts.bounds import shorten
from fedasync_jax.parts.files import open_regular
from fedasync_jax.parts.memory import check_fits

SUFFIXES = (".csv", ".csv.gz", ".parquet")


def read_columns(table: Any) -> dict[str, np.ndarray]:
    """Return the columns of a table, by name.

    >>> columns = read_columns({"age": [31, 40], "name": ["al", "bo"]})
    >>> columns["age"].tolist(), columns["name"].dtype.kind
    ([31, 40], 'U')

    Args:
      table: the path of a ``.csv``, ``.csv.gz`` or ``.parquet`` file; a data frame of
        pandas or polars, a pyarrow table, one split of Hugging Face's ``datasets``, or
        a dictionary of lists or arrays. The first line of a CSV file has the names; a
        column is of numbers if all its entries are.

    Raises:
      ValueError: in one line, if it is none of these, cannot be read or does not fit
        into memory, or a column has missing values or is neither of numbers nor of
        texts, nor of arrays of one shape.

    Returns:
      Arrays [N, ...] of booleans, numbers or strings.
    """
    if _is_many(table):
        raise ValueError(
            f"table must be one split of a data set, got {', '.join(map(str, table))}"
        )
    if isinstance(table, str | os.PathLike):
        columns = _read_file(Path(table))
    elif hasattr(table, "with_format") and hasattr(table, "num_rows"):
        columns = _read_hugging_face(table)
    elif hasattr(table, "column_names") and hasattr(table, "to_pydict"):
        columns = {name: table[name].to_numpy() for name in table.column_names}
    elif is_table(table):
        columns = {str(name): table[name].to_numpy() for name in table.columns}
    elif isinstance(table, Mapping):
        columns = dict(table)
    else:
        raise ValueError(
            "table must be a path, a data frame, one split of a data set or a "
            f"dictionary of columns, got {type(table).__name__}"
        )
    return {str(name): to_column(str(name), column) for name, column in columns.items()}


def is_table(value: object) -> bool:
    """Return whether a value is a table with columns, but no dictionary."""
    is_frame = hasattr(value, "columns") and hasattr(value, "to_numpy")
    return is_frame or hasattr(value, "column_names")


def to_column(name: str, values: Any) -> np.ndarray:
    """Return a column as an array of numbers or strings [N, ...].

    Raises:
      ValueError: if it holds objects that do not make one.
    """
    kind = getattr(getattr(values, "dtype", None), "kind", "O")
    if kind in "biufSU":
        return np.asarray(values)
    if kind != "O":
        raise ValueError(
            f"column {name!r} must hold numbers or texts, got {values.dtype}"
        )
    entries = list(values)
    try:
        return np.array(entries if _are_plain(entries) else [*map(_to_array, entries)])
    except ValueError:
        kinds = sorted({type(entry).__name__ for entry in entries})
        raise ValueError(
            f"column {name!r} must hold numbers, texts or arrays of one shape, got "
            f"{shorten(' and '.join(kinds), 60)}{_find_missing(entries)}"
        ) from None


def _are_plain(entries: list[Any]) -> bool:
    """Return whether all are texts, or all are numbers."""
    kinds = {type(entry) for entry in entries}
    return kinds in ({str}, {bytes}) or kinds <= {bool, int, float}


def _to_array(entry: Any) -> np.ndarray:
    array = np.asarray(entry)
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise ValueError
    return array


def _find_missing(entries: list[Any]) -> str:
    missing = [row for row, entry in enumerate(entries) if entry is None]
    return f" (None in row {missing[0]})" if missing else ""


def _is_many(table: Any) -> bool:
    """Return whether a dictionary is of splits, each a table of its own."""
    return isinstance(table, Mapping) and any(map(is_table, table.values()))


def _read_hugging_face(dataset: Any) -> dict[str, Any]:
    with_arrays = dataset.with_format("numpy")
    first = with_arrays[:1]
    row = sum(np.asarray(column).nbytes for column in first.values())
    check_fits("table", f"{dataset.num_rows} rows", row * dataset.num_rows)
    return with_arrays[:]


def _read_file(path: Path) -> dict[str, Any]:
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise ValueError(f"table must end in {', '.join(SUFFIXES)}, got {path}")
    try:
        with open_regular(path) as file:
            check_fits("table", path, os.fstat(file.fileno()).st_size)
            if name.endswith(".parquet"):
                return _read_parquet(file)
            with gzip.open(file) if name.endswith(".gz") else file as stored:
                return _read_csv(stored)
    except ImportError as error:
        raise ValueError(
            f"{path}: reading it needs the extra 'parquet' ({error})"
        ) from error
    except (OSError, EOFError, csv.Error, UnicodeDecodeError, ValueError) as error:
        words = error if type(error) is ValueError else f"cannot be read ({error})"
        raise ValueError(f"{path}: {shorten(str(words))}") from error


def _read_parquet(file: Any) -> dict[str, Any]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file)
    return {name: table[name].to_numpy() for name in table.column_names}


def _read_csv(file: Any) -> dict[str, Any]:
    """Return the columns of a CSV file in UTF-8."""
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        return _read_rows(csv.reader(text, strict=True))


def _read_rows(rows: Iterator[list[str]]) -> dict[str, Any]:
    names = next(rows, [])
    if not names or len(set(names)) != len(names):
        raise ValueError("the first line must have a name for every column, each once")
    entries: list[list[str]] = [[] for _ in names]
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) != len(names):
            raise ValueError(
                f"line {number} must have {len(names)} entries, got {len(row)}"
            )
        for column, entry in zip(entries, row, strict=True):
            column.append(entry)
    return {
        name: _to_numbers(column) for name, column in zip(names, entries, strict=True)
    }


def _to_numbers(entries: list[str]) -> np.ndarray:
    """Return whole numbers if all are, else real ones, else the texts themselves."""
    texts = np.array(entries, np.str_)
    for dtype in (np.int64, np.float64):
        try:
            return texts.astype(dtype)
        except (ValueError, OverflowError):
            continue
    return texts
