"""The runs of a leaderboard on disk: what is written is read, damage is told."""

import pytest

from fedasync_jax.leaderboard.entries import OWN, Contender
from fedasync_jax.leaderboard.results import (
    Ran,
    append_results,
    read_entries,
    read_results,
    write_entries,
)

ONE = Ran("p", "mobile", 5, "IID", "a:b=1,c=2", 0.5, 3, 40, 0.25, 0.75, None, 12.5)
TWO = ONE._replace(seed=4, time_to_target=7.25)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "digits.csv"
    append_results(path, [ONE])
    append_results(path, [TWO])
    assert read_results(path, "p") == [ONE, TWO]
    assert read_results(tmp_path / "none.csv", "p") == []


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_was_cut_off_is_left_out_and_written_anew(tmp_path, cut):
    path = tmp_path / "digits.csv"
    append_results(path, [ONE, TWO])
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_results(path, "p") == [ONE]
    append_results(path, [TWO])
    assert read_results(path, "p") == [ONE, TWO]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method,accuracy\n", "must begin with the columns protocol, fleet"),
        (",".join(Ran._fields) + "\na,b\n", "line 2 must be one of results, got 'a,b'"),
        (
            ",".join(Ran._fields) + "\np,f,x,v,l,1,2,3,4,5,6,7\n",
            "line 2 must be one of results",
        ),
    ],
)
def test_another_or_a_damaged_file_is_refused(tmp_path, text, words):
    path = tmp_path / "digits.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        read_results(path, "p")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_results_of_other_settings_are_not_mixed_with_these(tmp_path):
    path = tmp_path / "digits.csv"
    append_results(path, [ONE, ONE._replace(protocol="q")])
    with pytest.raises(ValueError, match=r"line 3 was made with other settings .* q,"):
        read_results(path, "p")


def test_entered_methods_are_remembered(tmp_path):
    assert read_entries(tmp_path) == {}
    write_entries(tmp_path, {"mine": Contender(OWN, ("mine", "mine:step=2"))})
    assert read_entries(tmp_path) == {"mine": Contender(OWN, ["mine", "mine:step=2"])}
    (tmp_path / "entries.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"entries\.json: Expected `object`"):
        read_entries(tmp_path)
