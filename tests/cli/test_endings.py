"""How commands end when memory, the disk or the output gives out."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest
from commands import ROOT, run_script

from fedasync_jax.cli.endings import clear_endings
from fedasync_jax.cli.flags import fail, fit_line

TRAIN = [sys.executable, str(ROOT / "scripts" / "train.py")]


@pytest.mark.parametrize("size", [10, 279, 280, 281, 5000])
@pytest.mark.parametrize("spaces", ["", " "])
def test_an_error_is_one_short_line(size, spaces, capsys):
    text = f"alpha must be\nin (0, 1], got {('x' + spaces) * size}"
    with pytest.raises(SystemExit) as ended:
        fail(ValueError(text))
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: alpha must be in (0, 1], got x")
    assert line.endswith("x\n") and line.count("\n") == 1
    assert len(line) <= 300


def test_what_cannot_be_printed_is_left_out_of_a_line():
    assert fit_line("got \x1b[31m\udcff☃\u2028!") == "got [31m ☃ !"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("Unable to allocate 80. GiB"), "80. GiB"),
        (MemoryError(), "memory must suffice for these settings, got less"),
        (OSError(28, "No space left on device", "a.png"), "No space left on device"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes"), "9 bytes"),
    ],
)
def test_what_gives_out_is_told_in_one_line(error, told, capsys):
    with pytest.raises(SystemExit) as ended, clear_endings():
        raise error
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [TypeError("ours"), jax.errors.JaxRuntimeError("INTERNAL: theirs")]
)
def test_a_fault_of_the_program_is_not_hidden(error):
    with pytest.raises(type(error), match="s"), clear_endings():
        raise error


def test_a_reader_that_has_enough_ends_the_command_without_a_word():
    process = subprocess.Popen(
        [*TRAIN, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # as head does
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_a_full_disk_under_the_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*TRAIN, "--help"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "error: No space left on device\n"


def test_a_run_is_no_worse_without_pictures(tmp_path):
    words = ["--methods", "sgd", "--num-updates", 1, "--hidden", 2]
    words += ["--run-dir", tmp_path / "run"]
    assert run_script("train.py", *words).returncode == 0
    for picture in (tmp_path / "run" / "plots").iterdir():
        picture.unlink()
    (tmp_path / "run" / "plots").rmdir()
    (tmp_path / "run" / "plots").write_text("a user's")
    done = run_script("train.py", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no pictures: accuracy.png needs a folder" in done.stdout.replace("\n", " ")
    assert (tmp_path / "run" / "plots").read_text() == "a user's"
