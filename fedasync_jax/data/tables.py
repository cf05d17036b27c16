"""A classification set from a table: which column is the label, and whose a row is."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from fedasync_jax.data.columns import SUFFIXES, read_columns
from fedasync_jax.data.dataset import Dataset
from fedasync_jax.data.npz import make_dataset
from fedasync_jax.data.words import count_words
from fedasync_jax.parts.bounds import Free, shorten

_SPLIT_SEED = 1998  # fixed: every run is tested on the same samples


def from_table(
    train: Any,
    test: Any = None,
    *,
    label: str = "label",
    inputs: Sequence[str] | None = None,
    client: str | None = None,
    test_fraction: float = 0.2,
) -> Dataset:
    """Make a data set of a table, or of two; see ``read_columns`` for what a table is.

    One input column of images or other arrays [N, ...] is taken as it is, one of texts
    becomes counts of words (``count_words``), and columns of numbers stand side by side
    [N, F]. All become float32; bytes are taken for images and divided by 255.

    >>> table = {"height": [1.0, 2.0, 3.0], "label": ["low", "low", "high"]}
    >>> from_table(table, table, label="label").y_train.tolist()
    [1, 1, 0]

    Args:
      train: the table.
      test: that of the test samples; None: a part of ``train``, always the same.
      label: the column of the label: texts, numbered in sorted order, or whole numbers
        from 0 on.
      inputs: columns of the input; default: all but label and client.
      client: the column that says whose a row is, for the natural partition.
      test_fraction: share of that part, in (0, 1), rounded up.

    Raises:
      ValueError: in one line, if a column is missing or of a wrong kind, or the samples
        are, as of ``load_npz``.
    """
    columns = read_columns(train)
    tests = None if test is None else read_columns(test)
    for name, table in (("train", columns), ("test", tests)):
        wanted = [label, *(inputs or ()), *([client] if client else ())]
        missing = [w for w in wanted if table is not None and w not in table]
        if name == "test":
            missing = [each for each in missing if each != client]
        if missing:
            raise ValueError(
                f"the {name} table must have a column {missing[0]!r}, got "
                f"{shorten(', '.join(table or ()))}"
            )
    inputs = inputs or [name for name in columns if name not in (label, client)]
    if tests is None:
        columns, tests = _hold_out(columns, label, test_fraction)
    y_train, y_test = _number(columns[label], tests[label])
    stored = {
        "x_train": _to_inputs(columns, inputs),
        "y_train": y_train,
        "x_test": _to_inputs(tests, inputs),
        "y_test": y_test,
    }
    if client is not None:
        stored["client_train"] = columns[client]
    return make_dataset(stored, None)


def load_table(
    path: str | os.PathLike[str] | None,
    label: Annotated[str, Free()] = "label",
    client: Annotated[str, Free()] | None = None,
) -> Dataset:
    """Load a table from a file, or from a folder with the files train and test.

    Args:
      path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file, of which a fifth of the rows
        is for testing; or the folder of two.
      label: column of the label.
      client: column that says whose a row is, for the natural partition.

    Raises:
      ValueError: in one line, as ``from_table``, or if there is no such file.
    """
    if path is None:
        raise ValueError(
            "data_path (--data-path) must name a file or a folder for data set table, "
            "got None"
        )
    if not Path(path).is_dir():
        tables = [read_columns(path), None]
    else:
        files = [_find_file(Path(path), name) for name in ("train", "test")]
        tables = [read_columns(file) for file in files]
    try:
        return from_table(*tables, label=label, client=client)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _find_file(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").exists():
            return folder / f"{name}{suffix}"
    raise ValueError(f"{folder} must hold {name} ({', '.join(SUFFIXES)}), got none")


def _hold_out(
    columns: Mapping[str, np.ndarray], label: str, fraction: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    count = len(columns[label])
    if not 0 < fraction <= 1 - 1 / max(count, 1):
        raise ValueError(
            f"test_fraction must be > 0 and leave one of the {count} rows for "
            f"training, got {fraction}"
        )
    order = np.random.default_rng(_SPLIT_SEED).permutation(count)
    test, train = np.split(order, [int(np.ceil(fraction * count))])
    return (
        {name: column[train] for name, column in columns.items()},
        {name: column[test] for name, column in columns.items()},
    )


def _number(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as numbers; texts are numbered in sorted order."""
    if train.dtype.kind not in "SU" or test.dtype.kind not in "SU":
        return train, test
    _, numbers = np.unique(np.concatenate([train, test]), return_inverse=True)
    return numbers[: len(train)], numbers[len(train) :]


def _to_inputs(columns: Mapping[str, np.ndarray], inputs: Sequence[str]) -> np.ndarray:
    first = columns[inputs[0]] if inputs else np.empty(0)
    if len(inputs) == 1 and first.ndim > 1:
        return first
    if len(inputs) == 1 and first.dtype.kind in "SU":
        return np.stack([count_words(text) for text in first.astype(np.str_)])
    for name in inputs:
        column = columns[name]
        if column.ndim != 1 or column.dtype.kind not in "biuf":
            kind = "texts" if column.dtype.kind in "SU" else f"shape {column.shape}"
            raise ValueError(
                f"column {name!r} must hold one number a row to stand beside others, "
                f"got {kind} (name the columns to learn from as inputs)"
            )
    if not inputs:
        raise ValueError("the table must have a column to learn from, got the label")
    return np.stack([columns[name].astype(np.float64) for name in inputs], axis=1)
