"""Texts by words and by characters, their batches and their partitions."""

import gzip
import lzma
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax.data import (
    batchify,
    deal_batches,
    load_shakespeare,
    load_wikitext2,
    make_client_data,
)
from fedasync_jax.data.text.wikitext2 import Text, keep_commonest

_REPEATABLE = settings(deadline=None, derandomize=True)


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


def _fails_like(path: object, pattern: str):
    """Expect one line that begins with the path and goes on like the pattern."""
    return pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {pattern}[^\n]*$")


# Words.

_SPLITS = {
    "train": " \n = Ein Haus = \n \n das Haus \n",
    "valid": " das <unk> \n",
    "test": " = neu = \n",
}
_COMPRESS = {"": bytes, ".xz": lzma.compress, ".gz": gzip.compress}


def _write(folder: Path, name: str = "{}.txt", suffix: str = "", **changes: str):
    for split, text in (_SPLITS | changes).items():
        content = _COMPRESS[suffix](text.encode())
        (folder / (name.format(split) + suffix)).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", ["{}.txt", "wiki.{}.tokens"])
@pytest.mark.parametrize("suffix", _COMPRESS)
def test_words_and_vocabulary_in_order_of_appearance(tmp_path, name, suffix):
    text = load_wikitext2(_write(tmp_path, name, suffix), verify=False)
    words = ("<eos>", "=", "Ein", "Haus", "das", "<unk>", "neu")
    assert text.vocabulary == words
    assert [words[i] for i in text.train] == (
        "<eos> = Ein Haus = <eos> <eos> das Haus <eos>".split()
    )
    assert [words[i] for i in text.valid] == "das <unk> <eos>".split()
    assert [words[i] for i in text.test] == "= neu = <eos>".split()
    assert text.train.dtype == text.valid.dtype == text.test.dtype == np.int32


def test_a_last_line_without_an_end_and_windows_line_ends_count_alike(tmp_path):
    usual = load_wikitext2(_write(tmp_path, train="a b\n\nc\n"), verify=False)
    for other in ("a b\n\nc", "a b\r\n\r\nc\r\n"):
        text = load_wikitext2(_write(tmp_path, train=other), verify=False)
        assert np.array_equal(text.train, usual.train)
        assert text.vocabulary == usual.vocabulary


def test_plain_files_come_before_compressed_ones(tmp_path):
    _write(tmp_path, suffix=".xz", train="old\n")
    _write(tmp_path)
    assert len(load_wikitext2(tmp_path, verify=False).train) == 10


_AS_WIKITEXT = "(as WikiText-2; verify=False for another text)"


def test_another_text_is_told_by_its_number_of_words(tmp_path):
    path = _write(tmp_path) / "train.txt"
    with _fails(f"{path}: must have 2088628 words {_AS_WIKITEXT}, got 10"):
        load_wikitext2(tmp_path)


def test_another_vocabulary_is_told_by_its_size(tmp_path):
    sizes = {"train": 2_088_628, "valid": 217_646, "test": 245_569}
    lines = {split: "a\n" + "\n" * (size - 2) for split, size in sizes.items()}
    _write(tmp_path, **lines)
    line = f"must have 33278 different words {_AS_WIKITEXT}, got 2"
    with _fails(f"{tmp_path}: {line}"):
        load_wikitext2(tmp_path)


def test_missing_split_and_folder(tmp_path):
    (_write(tmp_path) / "valid.txt").unlink()
    names = "valid.txt or wiki.valid.tokens (plain, .xz or .gz)"
    with _fails(f"{tmp_path}: no file {names}"):
        load_wikitext2(tmp_path)
    folder = tmp_path / "none"
    line = "no such folder; no file train.txt or wiki.train.tokens"
    with _fails(f"{folder}: {line} (plain, .xz or .gz)"):
        load_wikitext2(folder)


def test_empty_split(tmp_path):
    path = _write(tmp_path, valid="") / "valid.txt"
    with _fails(f"{path}: must hold one word or more, got an empty text"):
        load_wikitext2(tmp_path, verify=False)


def test_bytes_that_are_no_utf8(tmp_path):
    path = _write(tmp_path) / "test.txt"
    path.write_bytes("caf\xe9 \n".encode("latin1"))
    with _fails(f"{path}: must be UTF-8, got byte 0xe9 at position 3"):
        load_wikitext2(tmp_path, verify=False)


@pytest.mark.parametrize("suffix", [".xz", ".gz"])
def test_every_truncated_compressed_file_is_refused(tmp_path, suffix):
    path = _write(tmp_path, suffix=suffix) / f"train.txt{suffix}"
    content = path.read_bytes()
    for size in range(1, len(content)):
        path.write_bytes(content[:size])
        with _fails_like(path, "cannot be read"):
            load_wikitext2(tmp_path, verify=False)


@pytest.mark.parametrize("suffix", [".xz", ".gz"])
def test_every_damaged_byte_is_told_in_one_line_or_was_harmless(tmp_path, suffix):
    path = _write(tmp_path, suffix=suffix) / f"train.txt{suffix}"
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert len(load_wikitext2(tmp_path, verify=False).train) == 10
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)


# Batches.


@_REPEATABLE
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 100))
def test_batches_are_streams_and_y_is_x_one_word_later(batch_size, bptt, more):
    tokens = np.arange(batch_size * (bptt + 1) + more)
    x, y = batchify(tokens, batch_size=batch_size, bptt=bptt)
    length = len(tokens) // batch_size
    num_batches = (length - 1) // bptt
    assert x.shape == y.shape == (num_batches, bptt, batch_size)
    assert x.dtype == y.dtype == np.int32
    assert np.array_equal(y, x + 1)
    for column in range(batch_size):
        stream = x[:, :, column].ravel()
        start = column * length
        assert np.array_equal(stream, np.arange(start, start + num_batches * bptt))
        # What is left of the stream would not fill one more batch.
        assert length - 1 - len(stream) < bptt


def test_the_commonest_words_of_train_are_kept():
    words = ("a", "b", "<unk>", "c", "d")
    train = np.array([0, 1, 1, 2, 2, 2, 3, 3, 4], np.int32)
    test = np.array([4, 4, 4, 4, 3, 2, 1, 0], np.int32)  # it does not count
    few = keep_commonest(Text(train, train[:3], test, words), 3)
    assert few.vocabulary == ("<unk>", "b", "c")  # b and c as often, b first
    assert few.train.tolist() == [0, 1, 1, 0, 0, 0, 2, 2, 0]
    assert few.test.tolist() == [0, 0, 0, 0, 2, 0, 1, 0]
    assert few.train.dtype == np.int32
    all_words = keep_commonest(Text(train, train, test, words), 5)
    assert sorted(all_words.vocabulary) == sorted(words)
    for number in (1, 6):
        with pytest.raises(ValueError, match=rf"vocabulary must be in 2..5.*{number}"):
            keep_commonest(Text(train, train, test, words), number)
    without = keep_commonest(Text(train, train, test, ("a", "b", "e", "c", "d")), 5)
    assert without.vocabulary == ("<unk>", "e", "b", "c", "a")


def test_batches_of_wikitext2():
    x, _ = batchify(np.zeros(2_088_628, np.int32))
    assert x.shape == (2983, 35, 20)


@pytest.mark.parametrize(
    ("tokens", "kwargs", "line"),
    [
        (719, {}, "tokens must have a shape [N], N >= 720 (batch_size (bptt + 1)), "),
        (9, {"batch_size": 0}, "batch_size must be a whole number >= 1, got 0"),
        (9, {"bptt": 1.5}, "bptt must be a whole number >= 1, got 1.5"),
    ],
)
def test_batches_that_cannot_be_made(tokens, kwargs, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}[^\n]*$"):
        batchify(np.arange(tokens), **kwargs)


@_REPEATABLE
@given(st.integers(1, 60), st.data())
def test_batch_i_goes_to_client_i_mod_c(num_batches, data):
    num_clients = data.draw(st.integers(1, num_batches))
    partition = deal_batches(num_batches, num_clients)
    assert partition.indices.dtype == partition.counts.dtype == np.int32
    rows = np.split(partition.indices, np.cumsum(partition.counts)[:-1])
    for client, own in enumerate(rows):
        assert own.tolist() == list(range(client, num_batches, num_clients))


def test_wikitext2_over_100_clients():
    partition = deal_batches(2983, 100)
    assert sorted(set(partition.counts.tolist())) == [29, 30]
    data = make_client_data(np.zeros((2983, 1)), partition)
    assert data.counts.sum() == 2983


@pytest.mark.parametrize("num_clients", [0, 6, 2.0])
def test_clients_without_batches(num_clients):
    line = f"num_clients must be in 1..5 (the number of batches), got {num_clients}"
    with _fails(line):
        deal_batches(5, num_clients)
    with _fails("num_batches must be a whole number >= 1, got 0"):
        deal_batches(0, 1)


# Characters.

_ALICE = "abcdefghij", "klmnopqrst"
_PLAY = (
    f"Alice:\n{_ALICE[0]}\n\nBob:\nno\n\nAlice:\n{_ALICE[1]}\n\nCarl:\n{'xyz' * 7}\n"
)


def _play(folder: Path, text: str = _PLAY) -> Path:
    (folder / "input.txt").write_text(text)
    return folder


def test_every_speaker_of_enough_text_is_a_client(tmp_path):
    data = load_shakespeare(
        _play(tmp_path), seq_len=5, min_characters=10, test_fraction=0.4
    )
    assert data.speakers == ("Alice", "Carl")
    assert data.vocabulary == tuple(sorted(set(_PLAY)))

    def read(windows: np.ndarray) -> list[str]:
        return ["".join(data.vocabulary[i] for i in window) for window in windows]

    # 21 characters each; the last nine are for testing.
    assert read(data.x_train) == ["abcde", "fghij", "xyzxy", "zxyzx"]
    assert read(data.y_train) == ["bcdef", "ghij\n", "yzxyz", "xyzxy"]
    assert read(data.x_test) == ["lmnop", "xyzxy"]
    assert read(data.y_test) == ["mnopq", "yzxyz"]
    assert data.partition.indices.tolist() == [0, 1, 2, 3]
    assert data.partition.counts.tolist() == [2, 2]
    for array in (*data[:4], *data.partition):
        assert array.dtype == np.int32


@pytest.mark.parametrize("suffix", [".xz", ".gz"])
def test_compressed_plays_are_the_same(tmp_path, suffix):
    sizes = {"seq_len": 3, "min_characters": 6}
    plain = load_shakespeare(_play(tmp_path), **sizes)
    other = tmp_path / "other"
    other.mkdir()
    (other / f"input.txt{suffix}").write_bytes(_COMPRESS[suffix](_PLAY.encode()))
    data = load_shakespeare(other, **sizes)
    assert data.vocabulary == plain.vocabulary
    assert np.array_equal(data.x_train, plain.x_train)


def test_no_test_part(tmp_path):
    data = load_shakespeare(
        _play(tmp_path), seq_len=5, min_characters=21, test_fraction=0
    )
    assert data.x_test.shape == data.y_test.shape == (0, 5)
    assert data.partition.counts.tolist() == [4, 4]


@_REPEATABLE
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    seq_len=st.integers(1, 8),
    test_fraction=st.floats(0, 0.9),
)
def test_no_client_is_empty_and_no_test_character_is_trained_on(
    tmp_path_factory, lengths, seq_len, test_fraction
):
    minimum = next(
        m for m in range(1000) if m - int(np.ceil(m * test_fraction)) > seq_len
    )
    lengths = [*lengths, minimum]
    blocks = (f"N{i}:\n{chr(97 + i) * n}" for i, n in enumerate(lengths))
    folder = _play(tmp_path_factory.mktemp("play"), "\n\n".join(blocks))
    data = load_shakespeare(
        folder, seq_len=seq_len, min_characters=minimum, test_fraction=test_fraction
    )
    chosen = [n for n in lengths if n >= minimum]
    assert len(data.speakers) == len(chosen) == len(data.partition.counts)
    assert data.partition.counts.min() >= 1
    assert data.partition.counts.sum() == len(data.x_train)
    for count, length in zip(data.partition.counts, chosen, strict=True):
        assert count == (length - int(np.ceil(length * test_fraction)) - 1) // seq_len


def test_vocabulary_is_that_of_the_file(tmp_path):
    few = load_shakespeare(_play(tmp_path), seq_len=2, min_characters=21)
    more = load_shakespeare(tmp_path, seq_len=1, min_characters=3)
    assert few.vocabulary == more.vocabulary


@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        ({"seq_len": 0}, "seq_len must be a whole number >= 1, got 0"),
        ({"test_fraction": 1}, "test_fraction must be in [0, 1), got 1"),
        (
            {"min_characters": 89},
            "min_characters must leave 81 characters (seq_len + 1) after the test "
            "fraction of 0.1, got 89",
        ),
    ],
)
def test_sizes_out_of_range(tmp_path, kwargs, line):
    with _fails(line):
        load_shakespeare(_play(tmp_path), **kwargs)


def test_no_speaker_says_enough(tmp_path):
    path = _play(tmp_path) / "input.txt"
    line = "must have 1 speaker(s) of 1000 characters (min_characters) or more, got 0"
    with _fails(f"{path}: {line} of 3"):
        load_shakespeare(tmp_path)


@pytest.mark.parametrize("text", ["", "Alice\nHello", "Alice:\nHi\n\n\n\nBob:\nHi"])
def test_text_that_is_no_play(tmp_path, text):
    path = _play(tmp_path, text) / "input.txt"
    with _fails_like(path, "speech [12] must begin with a line of a name and a colon"):
        load_shakespeare(tmp_path)


def test_play_that_is_missing(tmp_path):
    with _fails(f"{tmp_path}: no file input.txt (plain, .xz or .gz)"):
        load_shakespeare(tmp_path)


def test_those_who_say_most_are_chosen_in_their_order(tmp_path):
    folder = _play(tmp_path, _PLAY + f"\nDora:\n{'uv' * 20}\n")
    everyone = load_shakespeare(folder, seq_len=2, min_characters=4)
    texts = dict(zip(everyone.speakers, everyone.partition.counts, strict=True))
    assert len(texts) > 2
    two = load_shakespeare(folder, seq_len=2, min_characters=4, num_speakers=2)
    assert sorted(two.partition.counts) == sorted(texts.values())[-2:]
    assert list(two.speakers) == [name for name in texts if name in two.speakers]
    number = len(texts) + 1
    with pytest.raises(ValueError, match=rf"must have {number} speaker\(s\)"):
        load_shakespeare(folder, seq_len=2, min_characters=4, num_speakers=number)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", " \t\n"),
        lambda text: text.replace("\n", "  \r\n"),
    ],
    ids=["windows", "mark", "blanks", "all"],
)
def test_a_play_as_other_editors_write_it_is_the_same(tmp_path, change):
    plain = load_shakespeare(_play(tmp_path), seq_len=3, min_characters=6)
    (tmp_path / "input.txt").write_bytes(change(_PLAY).encode())
    data = load_shakespeare(tmp_path, seq_len=3, min_characters=6)
    assert (data.speakers, data.vocabulary) == (plain.speakers, plain.vocabulary)
    assert np.array_equal(data.x_train, plain.x_train)
    assert np.array_equal(data.y_test, plain.y_test)


def test_a_pipe_is_no_text(tmp_path):
    os.mkfifo(tmp_path / "input.txt")
    with _fails_like(tmp_path / "input.txt", "cannot be read .* a regular file"):
        load_shakespeare(tmp_path)
