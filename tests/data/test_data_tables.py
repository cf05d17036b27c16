"""Tables: CSV, Parquet, pandas, pyarrow, Hugging Face; columns, labels, owners."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from fedasync_jax.data import (
    Partition,
    count_words,
    from_table,
    load_dataset,
    load_table,
    make_client_data,
    natural,
    read_columns,
)
from fedasync_jax.experiment.presets import make_settings

TABLE = {
    "age": [30, 41, 52, 63, 74],
    "dose": [0.5, 1.5, 2.5, 3.5, 4.5],
    "site": ["b", "a", "b", "c", "a"],
    "label": ["ill", "well", "ill", "well", "ill"],
}
CSV = "age,dose,site,label\n" + "".join(
    ",".join(map(str, row)) + "\n" for row in zip(*TABLE.values(), strict=True)
)


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


def write(path: Path, text: str = CSV) -> Path:
    path.write_bytes(
        gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode()
    )
    return path


def by_pandas(folder):
    return pytest.importorskip("pandas").DataFrame(TABLE)


def by_arrow(folder):
    return pytest.importorskip("pyarrow").table(TABLE)


def by_parquet(folder):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(TABLE), folder / "own.parquet")
    return folder / "own.parquet"


def by_hugging_face(folder):
    return pytest.importorskip("datasets").Dataset.from_dict(TABLE)


SOURCES = {
    "dictionary": lambda folder: TABLE,
    "csv": lambda folder: write(folder / "own.csv"),
    "csv.gz": lambda folder: write(folder / "own.csv.gz"),
    "text path": lambda folder: str(write(folder / "own.csv")),
    "pandas": by_pandas,
    "arrow": by_arrow,
    "parquet": by_parquet,
    "hugging face": by_hugging_face,
}


@pytest.fixture(params=SOURCES)
def table(request, tmp_path):
    return SOURCES[request.param](tmp_path)


def test_a_table_of_any_kind_has_the_same_columns(table):
    columns = read_columns(table)
    assert list(columns) == list(TABLE)
    assert [column.dtype.kind for column in columns.values()] == ["i", "f", "U", "U"]
    for name, expected in TABLE.items():
        assert columns[name].tolist() == expected


def test_a_table_of_any_kind_becomes_a_data_set(table):
    data = from_table(table, table, client="site")
    assert data.x_train.dtype == np.float32 and data.num_classes == 2
    np.testing.assert_array_equal(
        data.x_train, np.stack([TABLE["age"], TABLE["dose"]], axis=1)
    )
    assert data.y_train.tolist() == [0, 1, 0, 1, 0]
    assert data.client_train is not None
    assert natural(data.client_train).indices.tolist() == [1, 4, 0, 2, 3]


def test_a_part_is_held_out_always_the_same():
    rows = {"x": np.arange(100), "label": np.arange(100) % 2}
    one, two = from_table(rows), from_table(rows)
    assert len(one.x_test) == 20
    assert sorted([*one.x_train[:, 0], *one.x_test[:, 0]]) == list(range(100))
    np.testing.assert_array_equal(one.x_test, two.x_test)
    np.testing.assert_array_equal(one.x_test[:, 0].astype(int) % 2, one.y_test)
    assert len(from_table(rows, test_fraction=0.01).x_test) == 1


def test_images_and_texts_are_inputs_of_their_own():
    images = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
    table = {"image": images, "label": [0, 1, 1, 0]}
    data = from_table(table, table)
    np.testing.assert_allclose(data.x_train, images / 255, rtol=1e-6)
    listed = {"image": images.tolist(), "label": [0, 1, 1, 0]}
    assert from_table(listed, listed).x_train.shape == (4, 2, 3)
    table = {"text": ["To be", "or not", "to be", ""], "label": [0, 1, 1, 0]}
    data = from_table(table, table)
    np.testing.assert_array_equal(data.x_train[0], data.x_train[2])
    assert np.count_nonzero(data.x_train[0]) == 2 and not data.x_train[3].any()


def test_words_are_counted_by_hand():
    x = count_words(b"a b a", 2048)
    places = np.flatnonzero(x)
    counts = np.sort(x[places])
    expected = np.log([2, 3]) / np.linalg.norm(np.log([2, 3]))
    np.testing.assert_allclose(counts, expected, rtol=1e-6)


def test_images_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("PIL.Image")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    images = [np.full((4, 5, 3), i, np.uint8) for i in range(6)]
    table = datasets.Dataset.from_dict(
        {"image": images, "label": [0, 1] * 3}, features=features
    )
    data = from_table(table, table)
    assert data.x_train.shape == (6, 4, 5, 3) and data.num_classes == 2
    np.testing.assert_allclose(data.x_train[:, 0, 0, 0], np.arange(6) / 255, rtol=1e-6)
    clients = make_client_data(table, Partition(np.arange(6), np.array([2, 4])))
    assert clients.arrays["image"].dtype == np.uint8
    both = datasets.DatasetDict({"train": table, "test": table})
    with pytest.raises(ValueError, match=r"one split of a data set, got train, test$"):
        from_table(both)


def test_clients_of_a_table_are_arrays_by_name():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [1, 2, 3], "y": [0.5, 1.5, 2.5]})
    clients = make_client_data(frame, Partition(np.arange(3), np.array([1, 2])))
    assert {name: a.dtype.kind for name, a in clients.arrays.items()} == {
        "age": "i",
        "y": "f",
    }
    frame["who"] = ["al", "bo", "al"]
    line = "arrays['who'] must hold numbers, got dtype <U2"
    with _fails(line):
        make_client_data(frame, Partition(np.arange(3), np.array([1, 2])))


@pytest.mark.parametrize("kind", ["object", "category", "str", "int"])
def test_keys_of_pandas_are_keys(kind):
    pandas = pytest.importorskip("pandas")
    values = [3, 1, 3] if kind == "int" else ["eve", "al", "eve"]
    keys = pandas.Series(values).astype("int64" if kind == "int" else kind)
    assert natural(keys).indices.tolist() == [1, 0, 2]


def test_objects_as_keys_are_refused():
    with _fails(
        "keys must be a one-dimensional array of integers or strings, got shape (2,), "
        "dtype object"
    ):
        natural(np.array(["al", 3], object))


def test_a_table_by_its_name(tmp_path):
    path = write(tmp_path / "own.csv")
    with _fails(
        f"{path}: column 'site' must hold one number a row to stand beside others, got "
        "texts (name the columns to learn from as inputs)"
    ):
        load_dataset("table", path)
    write(path, "age,label\n" + "1,0\n2,1\n" * 10)
    data = load_dataset("table", path)
    assert data.x_train.shape == (16, 1) and data.x_test.shape == (4, 1)


def test_by_settings(tmp_path):
    text = CSV.replace("site,label", "site,kind")
    for name in ("train", "test"):
        write(tmp_path / f"{name}.csv", text)
    settings = make_settings(
        dataset="table",
        data_path=tmp_path,
        table_label="kind",
        table_client="site",
    )
    assert settings["table_client"] == "site"
    data = load_table(tmp_path, "kind", "site")
    assert data.x_train.shape == data.x_test.shape == (5, 2)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (
            {**TABLE, "dose": [1.0, None, 2.0, 3.0, 4.0]},
            "column 'dose' must hold numbers, texts or arrays of one shape, got "
            "NoneType and float (None in row 1)",
        ),
        (
            {**TABLE, "dose": [[1], [1, 2], [1], [1], [1]]},
            "column 'dose' must hold numbers, texts or arrays of one shape, got list",
        ),
        (
            {**TABLE, "dose": [1, 2, "c", 4, 5]},
            "column 'dose' must hold numbers, texts or arrays of one shape, got int "
            "and str",
        ),
        (
            TABLE,
            "column 'site' must hold one number a row to stand beside others, got "
            "texts (name the columns to learn from as inputs)",
        ),
        (
            {"label": [0, 1]},
            "the table must have a column to learn from, got the label",
        ),
        (
            {"age": [1, 2]},
            "the train table must have a column 'label', got age",
        ),
        (
            {"age": [1.0, np.nan], "label": [0, 1]},
            "x_train must be finite in float32, got NaN or infinity in row 1",
        ),
        (
            {"age": [1, 2], "label": [0.5, 1]},
            "y_train must hold whole numbers in 0..2147483646, got 0.5 in row 0",
        ),
        (
            3,
            "table must be a path, a data frame, one split of a data set or a "
            "dictionary of columns, got int",
        ),
    ],
)
def test_what_is_no_table_is_one_line(table, line):
    with _fails(line):
        from_table(table, table)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "the first line must have a name for every column, each once"),
        ("a,a\n1,2\n", "the first line must have a name for every column, each once"),
        ("a,label\n1,2\n3\n", "line 3 must have 2 entries, got 1"),
        ('a,label\n"1,2\n', "cannot be read (unexpected end of data)"),
    ],
)
def test_what_is_no_csv_is_one_line(tmp_path, text, line):
    path = write(tmp_path / "own.csv", text)
    with _fails(f"{path}: {line}"):
        read_columns(path)


def test_files_that_cannot_be_read(tmp_path):
    with _fails(
        f"table must end in .csv, .csv.gz, .parquet, got {tmp_path / 'own.txt'}"
    ):
        read_columns(tmp_path / "own.txt")
    with pytest.raises(ValueError, match=r"own\.csv: cannot be read \(\[Errno 2\]"):
        read_columns(tmp_path / "own.csv")
    (tmp_path / "own.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"own\.csv\.gz: cannot be read \(Not a gz"):
        read_columns(tmp_path / "own.csv.gz")
    (tmp_path / "bytes.csv").write_bytes(b"a,b\n\xff,1\n")
    with pytest.raises(ValueError, match=r"bytes\.csv: cannot be read \('utf-8' codec"):
        read_columns(tmp_path / "bytes.csv")
    with _fails(f"{tmp_path} must hold train (.csv, .csv.gz, .parquet), got none"):
        load_table(tmp_path)
    with pytest.raises(ValueError, match=r"^data_path \(--data-path\) must name a "):
        load_table(None)


def test_what_does_not_fit_into_memory_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("fedasync_jax.parts.memory.physical_memory", lambda: 10)
    path = write(tmp_path / "own.csv")
    with pytest.raises(ValueError, match=r"own\.csv: table must fit into memory"):
        read_columns(path)
    datasets = pytest.importorskip("datasets")
    with pytest.raises(ValueError, match=r"^table must fit into memory, 0\.0 GB, got"):
        read_columns(datasets.Dataset.from_dict({"age": list(range(100))}))
