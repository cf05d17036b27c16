"""scripts/fuzz.py: cases of every kind, and that it knows a fault when it is one."""

import os
import re

import numpy as np
import pytest
from commands import run_script

from benchmarks.fuzz.case import Case, hash_files, judge
from benchmarks.fuzz.child import Ended
from benchmarks.fuzz.damage import damage_bytes, damage_json, damage_kind


def run_fuzz(*words):
    return run_script("fuzz.py", *words)


def end(code=0, out="", err="", *, timed_out=False):
    return Ended(code, timed_out, out, err, 1.0)


def judge_end(ended, case=None, before=None, after=None):
    case = case or Case(("train",), "")
    return judge(case, ended, before or {}, after or {}).word


@pytest.mark.parametrize(
    ("ended", "word"),
    [
        (end(out="wrote a.png"), "worked"),
        (end(1, out="ended early"), "worked"),
        (end(2, err="error: alpha must be in (0, 1], got 2\n"), "clear line"),
        (end(2, err="error: \n"), "unclear"),
        (end(2, err="error: a\nerror: b\n"), "unclear"),
        (end(2, err=f"error: {'x' * 300}\n"), "unclear"),
        (end(2), "unclear"),
        (end(0, err="RuntimeWarning: overflow"), "unclear"),
        (end(1, err="Traceback (most recent call last):\nKeyError: 1"), "traceback"),
        (end(-6, err="terminate called"), "traceback"),
        (end(-9, timed_out=True), "hang"),
    ],
)
def test_an_end_is_classed(ended, word):
    assert judge_end(ended) == word


def test_a_command_that_works_on_what_was_asked_for_does_not_hang():
    large, slow = Case(("train",), "", is_large=True), end(-9, timed_out=True)
    assert judge_end(slow, large) == "hang"
    assert judge_end(slow._replace(out="run folder: run\n"), large) == "worked"


def test_a_file_that_was_there_must_stay_as_it_was():
    refused = end(2, err="error: no\n")
    assert judge_end(refused, before={"a": "1"}, after={"a": "1", "b": "2"}) != "lost"
    assert judge_end(refused, before={"a": "1"}, after={"a": "2"}) == "lost"
    assert judge_end(refused, before={"a": "1"}, after={}) == "lost"
    own = Case(("train",), "", may_change=lambda path: path == "a")
    assert judge_end(refused, own, before={"a": "1"}) == "clear line"


def test_another_result_than_the_undisturbed_one_is_wrong():
    case = Case(("train",), "", find_error=lambda: "metrics.jsonl differs")
    assert judge_end(end(0), case) == "wrong"
    assert judge_end(end(2, err="error: damaged\n"), case) == "clear line"


def test_hashes_tell_files_links_and_others_apart(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("1")
    (tmp_path / "link").symlink_to("in")
    os.mkfifo(tmp_path / "fifo")
    hashes = hash_files(tmp_path)
    assert hashes.keys() == {"in/file", "link", "fifo"}
    assert (hashes["link"], hashes["fifo"]) == ("link to in", "special file")
    (tmp_path / "in" / "file").write_text("2")
    assert hash_files(tmp_path)["in/file"] != hashes["in/file"]


@pytest.mark.parametrize("damage", [damage_bytes, damage_json, damage_kind])
def test_damage_follows_from_the_seed(damage, tmp_path):
    made = []
    for name in ("a", "b"):
        path = tmp_path / name / "config.json"
        path.parent.mkdir()
        path.write_text('{"settings": {"alpha": 0.6, "methods": ["sgd"]}}')
        rng = np.random.default_rng(3)
        words = [damage(rng, path) for _ in range(1)]
        made.append((words, hash_files(path.parent)))
    assert made[0] == made[1]


def test_some_cases_of_every_kind_have_no_fault():
    done = run_fuzz("--cases", "12", "--seed", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(
        r"^(\w+ \w+) +(\d+) +(\d+) +(\d+)((?: +0){5})$", done.stdout, re.M
    )
    assert [row[:2] for row in rows] == [
        ("command line", "4"),
        ("data file", "4"),
        ("run folder", "4"),
    ]
    assert sum(int(row[2]) for row in rows) > 3  # refused in a clear line
    assert int(rows[2][3]) > 0  # run folders that went on as if undisturbed


def test_bad_flags_are_one_line():
    done = run_fuzz("--cases", "0")
    assert (done.returncode, done.stderr) == (2, "error: cases must be >= 1, got 0\n")
