"""Help of commands with few flags: in the form of all others, with nothing left out."""

import dataclasses

import pytest

from fedasync_jax.cli.leaderboard import LeaderboardFlags
from fedasync_jax.cli.plain_help import list_flags_of, read_field_texts, show_help
from fedasync_jax.cli.plot import Flags as PlotFlags
from reproduction.command import Flags as ReproduceFlags

RECORDS = {
    "plot": PlotFlags,
    "leaderboard": LeaderboardFlags,
    "reproduce": ReproduceFlags,
}


@dataclasses.dataclass
class Some:
    """A record."""

    first: int = 3
    """Number of
    things."""
    second: bool = True
    """Whether it is done."""


def test_fields_become_flags():
    first, second = list_flags_of(Some)
    assert (first.word, first.metavar, first.default) == ("--first", "N", "3")
    assert first.help == "Number of things."
    assert (second.word, second.metavar) == ("--[no-]second", "")


@dataclasses.dataclass
class More(Some):
    """A record with fields of its own."""

    third: float = 0.5
    """Something else."""
    first: int = 4
    """Another number."""


def test_own_fields_come_before_those_of_bases_and_in_their_place():
    flags = list_flags_of(More)
    assert [flag.word for flag in flags] == ["--third", "--first", "--[no-]second"]
    assert flags[1].help == "Another number." and flags[1].default == "4"


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_every_field_has_a_sentence(record):
    texts = read_field_texts(record)
    assert texts.keys() == {field.name for field in dataclasses.fields(record)}
    for text in texts.values():
        assert text[0].isupper() and text.endswith((".", ")"))


def test_help_is_plain_and_narrow(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fedasync plot", "--help"])
    description = "What it does.\n\n    fedasync plot RUN  # as it stands"
    with pytest.raises(SystemExit) as stop:
        show_help(PlotFlags, "fedasync plot RUN", description)
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert shown.startswith(
        "usage: fedasync plot RUN [OPTIONS]\n\nWhat it does.\n\n   "
    )
    assert "\n    fedasync plot RUN  # as it stands\n" in shown
    assert "--out PATH" in shown and "run_dirs" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_without_the_word_nothing_happens(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fedasync plot", "RUN"])
    show_help(PlotFlags, "fedasync plot RUN", "")
    assert capsys.readouterr().out == ""
