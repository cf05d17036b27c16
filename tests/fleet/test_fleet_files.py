"""Files of recorded fleets: values as they stand, errors of one line with the place."""

import gzip
import lzma
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fedasync_jax.fleet.availability import replay
from fedasync_jax.fleet.files import read_speeds, read_windows

_WINDOWS = "client,start,end\n1,0,10.5\n0,2e1,inf\n1,12,13\n"
_SPEEDS = "client,seconds_per_step\n2,0.5\n0,3\n1,1e-3\n"


def _write(folder: Path, text: str, name: str = "fleet.csv") -> Path:
    compress = {".xz": lzma.compress, ".gz": gzip.compress}.get(
        Path(name).suffix, bytes
    )
    file = folder / name
    file.write_bytes(compress(text.encode()))
    return file


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


def _assert_windows(read, client, start, end):
    for column, dtype, expected in zip(
        read, (np.int64, np.float64, np.float64), (client, start, end), strict=True
    ):
        assert column.dtype == dtype
        np.testing.assert_array_equal(column, expected)


# What is read


@pytest.mark.parametrize("name", ["w.csv", "w.csv.gz", "w.csv.xz", "w.txt"])
def test_windows_in_the_order_of_the_file(tmp_path, name):
    read = read_windows(_write(tmp_path, _WINDOWS, name), 2)
    _assert_windows(read, [1, 0, 1], [0, 20, 12], [10.5, np.inf, 13])


def test_windows_are_what_replay_takes(tmp_path):
    recorded = replay(*read_windows(_write(tmp_path, _WINDOWS), 3), 3)
    on, until = recorded(np.array([0, 1, 1, 2]), np.array([5.0, 5.0, 11.0, 5.0]))
    np.testing.assert_array_equal(on, [False, True, False, False])
    np.testing.assert_array_equal(until, [20, 10.5, 12, np.inf])


def test_speeds_in_the_order_of_the_clients(tmp_path):
    seconds = read_speeds(str(_write(tmp_path, _SPEEDS)), 3)
    assert seconds.dtype == np.float64
    np.testing.assert_array_equal(seconds, [3, 1e-3, 0.5])


@pytest.mark.parametrize(
    "text",
    [
        'start,"note, long",end,client\r\n0,"a\r\n""b"", c",10.5,1\r\n20,,inf,0\r\n'
        "12,nan,13,1\r\n",
        "\ufeff client, start ,end,more\n\n1,0,10.5,x\n0,20,inf\n 1 ,12,13,y,z\n\n",
    ],
)
def test_other_columns_order_quotes_and_blank_lines_do_not_matter(tmp_path, text):
    read = read_windows(_write(tmp_path, text), 2)
    _assert_windows(read, [1, 0, 1], [0, 20, 12], [10.5, np.inf, 13])


def test_no_windows_are_no_windows(tmp_path):
    _assert_windows(read_windows(_write(tmp_path, "client,start,end"), 2), [], [], [])


def test_many_lines_are_read_in_parts(tmp_path):
    rows = 70_000
    text = "".join(f"{i},{i / 8}\n" for i in reversed(range(rows)))
    file = _write(tmp_path, "client,seconds_per_step\n" + text.replace("0,0.0", "0,9"))
    expected = np.arange(rows) / 8
    expected[0] = 9
    np.testing.assert_array_equal(read_speeds(file, rows), expected)
    file = _write(tmp_path, "client,seconds_per_step\n" + text)
    column = f"{file}: line {rows + 1}, column seconds_per_step"
    with _fails(f"{column}: must be finite and > 0, got 0"):
        read_speeds(file, rows)


# What is refused


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("x,0,1", "column client: must be a number, got 'x'"),
        ("1,,1", "column start: must be a number, got ''"),
        ("1,0", "column end: must be a number, got ''"),
        ("-1,0,1", "column client: must be an integer in 0..2, got -1"),
        ("3,0,1", "column client: must be an integer in 0..2, got 3"),
        ("0.5,0,1", "column client: must be an integer in 0..2, got 0.5"),
        ("nan,0,1", "column client: must be an integer in 0..2, got nan"),
        ("1,nan,1", "column start: must be finite and >= 0, got nan"),
        ("1,-0.25,1", "column start: must be finite and >= 0, got -0.25"),
        ("1,inf,inf", "column start: must be finite and >= 0, got inf"),
        ("1,0,nan", "column end: must be > start, got nan"),
        ("1,5,5", "column end: must be > start, got 5"),
    ],
)
def test_windows_name_line_and_column(tmp_path, row, line):
    file = _write(tmp_path, f"client,start,end\n0,1,2\n\n{row}\n0,5,6\n")
    with _fails(f"{file}: line 4, {line}"):
        read_windows(file, 3)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            "0,1 2,1 1,zwei",
            "line 4, column seconds_per_step: must be a number, got 'zwei'",
        ),
        (
            "0,1 2,0 1,2",
            "line 3, column seconds_per_step: must be finite and > 0, got 0",
        ),
        ("0,-1 2,1", "line 2, column seconds_per_step: must be finite and > 0, got -1"),
        (
            "0,1 2,inf",
            "line 3, column seconds_per_step: must be finite and > 0, got inf",
        ),
        ("0,1 2,1 3,1", "line 4, column client: must be an integer in 0..2, got 3"),
        (
            "1,1 2,1 1,2",
            "line 4, column client: must be there once, line 2 has the same, got 1",
        ),
        (
            "1,1",
            "column client: must hold every client in 0..2, 2 missing, the first is 0",
        ),
        (
            "",
            "column client: must hold every client in 0..2, 3 missing, the first is 0",
        ),
    ],
)
def test_speeds_name_line_and_column(tmp_path, rows, line):
    text = "\n".join(["client,seconds_per_step", *rows.split()])
    file = _write(tmp_path, text)
    with _fails(f"{file}: {line}"):
        read_speeds(file, 3)


def test_missing_file_and_column(tmp_path):
    with pytest.raises(
        ValueError, match=r"no\.csv: cannot be read [^\n]*No such file[^\n]*$"
    ):
        read_windows(tmp_path / "no.csv", 3)
    needed = "must have the columns client, start, end; no start in"
    file = _write(tmp_path, "client,begin,end\n")
    with _fails(f"{file}: {needed} 'client, begin, end'"):
        read_windows(file, 3)
    file = _write(tmp_path, "")
    with _fails(
        f"{file}: must have the columns client, seconds_per_step; no client in ''"
    ):
        read_speeds(file, 3)


def test_semicolons_are_told_and_a_byte_order_mark_is_not_read(tmp_path):
    file = _write(tmp_path, "client;seconds_per_step\n0;0,9\n")
    with _fails(
        f"{file}: must have the columns client, seconds_per_step (they are separated "
        "by commas); no client in 'client;seconds_per_step'"
    ):
        read_speeds(file, 1)
    file = _write(tmp_path, "\ufeff" + _SPEEDS.replace("\n", "\r\n"))
    assert read_speeds(file, 3).tolist() == [3, 1e-3, 0.5]


@pytest.mark.parametrize(
    "text", ["x" * 9999, "client,seconds_per_step\n0," + "x" * 9999]
)
def test_what_a_line_shows_is_short(tmp_path, text):
    with pytest.raises(ValueError, match=r"\.\.\.") as error:
        read_speeds(_write(tmp_path, text), 1)
    assert len(str(error.value)) <= 300


@pytest.mark.parametrize("name", ["fleet.csv", "fleet.csv.gz"])
def test_a_pipe_is_no_table(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=r"cannot be read \(.* a regular file"):
        read_speeds(tmp_path / name, 1)


def test_lines_without_end(tmp_path):
    file = _write(tmp_path, 'client,start,end\n0,1,2\n1,"' + "x" * 200_000)
    with _fails(f"{file}: line 3: field larger than field limit (131072)"):
        read_windows(file, 3)


# Parquet


def test_parquet_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    file = tmp_path / "fleet.parquet"
    with _fails(
        f"{file}: Parquet is read with the package pyarrow (pip install pyarrow)"
    ):
        read_speeds(file, 3)


def _write_parquet(folder: Path, **columns: list) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    parquet.write_table(pyarrow.table(columns), folder / "fleet.parquet")
    return folder / "fleet.parquet"


def test_parquet_holds_the_same(tmp_path):
    file = _write_parquet(
        tmp_path,
        end=[10.5, np.inf, 13],
        x=["", "", ""],
        start=[0, 20, 12],
        client=[1, 0, 1],
    )
    read = read_windows(file, 2)
    _assert_windows(read, [1, 0, 1], [0, 20, 12], [10.5, np.inf, 13])
    file = _write_parquet(tmp_path, client=[1, 0], seconds_per_step=[2, 1])
    np.testing.assert_array_equal(read_speeds(file, 2), [1, 2])


def test_parquet_names_row_and_column(tmp_path):
    file = _write_parquet(tmp_path, client=[1, 0], seconds_per_step=[2, None])
    column = "row 1, column seconds_per_step"
    with _fails(f"{file}: {column}: must be finite and > 0, got nan"):
        read_speeds(file, 2)
    file = _write_parquet(tmp_path, client=["1", "0"], seconds_per_step=[2, 1])
    with _fails(f"{file}: column client: must hold numbers, holds string"):
        read_speeds(file, 2)
    needed = "must have the columns client, start, end; no start in"
    with _fails(f"{file}: {needed} 'client, seconds_per_step'"):
        read_windows(file, 2)
    file.write_text(_SPEEDS)
    with pytest.raises(ValueError, match=r"fleet\.parquet: cannot be read [^\n]*$"):
        read_speeds(file, 2)
