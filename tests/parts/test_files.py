import gzip
import io
import os

import pytest

from fedasync_jax.parts.files import open_regular, read_at_most, read_utf8


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_never_ends_is_not_opened(tmp_path, kind):
    path = tmp_path / "it"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")

    with pytest.raises(ValueError, match=r"it must be a regular file"):
        open_regular(path)


def test_a_link_to_a_regular_file_is_read(tmp_path):
    (tmp_path / "there").write_bytes(b"ab")
    (tmp_path / "here").symlink_to(tmp_path / "there")

    with open_regular(tmp_path / "here") as file:
        assert file.read() == b"ab"


def test_windows_text_reads_as_unix_text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")

    assert read_utf8(path) == "one\ntwo\nthree\n"


def test_bytes_that_are_no_text_are_told_by_place(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"ab\xff")

    with pytest.raises(ValueError, match="must be UTF-8 text, got byte 0xff at 2"):
        read_utf8(path)


def test_a_small_file_does_not_unpack_without_end():
    packed = gzip.compress(b"a" * 10_000)
    with gzip.open(io.BytesIO(packed)) as stream:
        assert read_at_most(stream, 10_000) == b"a" * 10_000
    with (
        gzip.open(io.BytesIO(packed)) as stream,
        pytest.raises(ValueError, match="it must hold 9999 bytes at most, got more"),
    ):
        read_at_most(stream, 9999)
