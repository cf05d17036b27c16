"""The command ``fedasync``: a word for each thing, one line for what cannot be."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from commands import ROOT, run_code

from fedasync_jax.cli import command

FEDASYNC = "from fedasync_jax.cli.command import main; main()"


def run(*arguments, cwd=ROOT):
    """Run it, with the package imported anew: a word imports all that it needs."""
    return run_code(FEDASYNC, *arguments, cwd=cwd, import_anew=True)


def test_the_command_is_installed():
    (found,) = entry_points(group="console_scripts", name="fedasync")
    assert found.load() is command.main


def test_without_a_word_it_says_what_there_is():
    for arguments in ((), ("--help",), ("-h",)):
        done = run(*arguments)
        assert done.returncode == 0
        for name in command.COMMANDS:
            assert f"\n  {name} " in done.stdout
    assert run("--version").stdout.startswith("fedasync-jax ")


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_word_has_help(name):
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: fedasync {name}")


def test_an_unknown_word_is_one_line_with_the_nearest():
    done = run("trian")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: command must be one of {', '.join(command.COMMANDS)}, got 'trian' "
        "(did you mean train?)\n"
    )


def test_what_needs_a_checkout_says_so_without_one(tmp_path):
    package = tmp_path / "site" / "fedasync_jax"
    package.parent.mkdir()
    package.symlink_to(ROOT / "fedasync_jax")
    code = f"from pathlib import Path; Path.resolve = lambda self: self; {FEDASYNC}"
    done = subprocess.run(
        [sys.executable, "-c", code, "benchmark"],
        capture_output=True,
        text=True,
        cwd=tmp_path / "site",
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: benchmark must be run from a checkout of the "
    )
    assert done.stderr.count("\n") == 1


def test_the_package_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "fedasync_jax", "--version"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.startswith("fedasync-jax ")


def test_a_job_runs_and_is_drawn_again(tmp_path):
    flags = ("--num-updates", 20, "--eval-every", 10, "--methods", "fedasync-constant")
    done = run("train", *flags, "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "run" / "plots" / "alpha.png").unlink()
    assert run("plot", "run", cwd=tmp_path).returncode == 0
    assert (tmp_path / "run" / "plots" / "alpha.png").is_file()
