"""What shells complete, asked of the shells themselves."""

import shutil
import subprocess

import pytest

from fedasync_jax.cli import completion


def make_script(shell, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fedasync completion", shell])
    completion.main()
    return capsys.readouterr().out


def complete(script, *words):
    """Return what bash offers for the last word."""
    ask = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fedasync; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}", "bash", "fedasync", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_words_flags_and_choices(monkeypatch, capsys):
    script = make_script("bash", monkeypatch, capsys)
    assert complete(script, "sw") == ["sweep"]
    assert complete(script, "train", "--fle") == ["--fleet"]
    assert complete(script, "train", "--fleet", "") == ["stragglers", "mobile"]
    assert complete(script, "train", "--resume", "") == []  # files, by bash itself
    assert complete(script, "sweep", "--alpha", "0.5", "--gri") == ["--grid"]
    assert complete(script, "plot", "--") == ["--help", "--out"]
    assert complete(script, "completion", "z") == ["zsh"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(shell, monkeypatch, capsys):
    script = make_script(shell, monkeypatch, capsys)
    assert "sweep" in script and "stragglers" in script and "num-updates" in script
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n", "-c", script], check=True)


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_no_or_another_shell_is_one_line(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fedasync completion", *words])
    with pytest.raises(SystemExit) as ended:
        completion.main()
    assert ended.value.code == 2
    assert "completion must be for one of bash, zsh, fish" in capsys.readouterr().err
