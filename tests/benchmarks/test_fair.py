"""The comparison of methods at their best: same care for all, choices that hold."""

import json
import re

import numpy as np
import pytest
from commands import run_script

from benchmarks.fair.page import write_fair_page
from benchmarks.fair.results import Record, Search, collect_reported, list_reports
from benchmarks.fair.search import (
    CONTENDERS,
    DEFAULT_JOB,
    NUM_TRIES,
    REPORTED_SEEDS,
    TUNING_SEEDS,
    Try,
    find_untuned,
    list_search,
    make_try_point,
)
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.leaderboard.entries import Choice, list_choices

VALID = {0.5: 0.7, 1.0: 0.8, 2.0: 0.6}  # of the factors, in made-up records


def test_every_method_has_the_same_number_of_tries():
    for name, contender in CONTENDERS.items():
        choices = list_choices(contender)
        assert len(set(choices)) == len(choices) == NUM_TRIES, name
        assert find_untuned(contender) in choices, name


def test_no_reported_seed_had_part_in_a_choice():
    assert len(set(REPORTED_SEEDS)) >= 5 and len(set(TUNING_SEEDS)) >= 2
    assert not set(REPORTED_SEEDS) & set(TUNING_SEEDS)


def test_the_untuned_lines_are_the_methods_of_the_default_job(tmp_path):
    untuned = [find_untuned(CONTENDERS[name]) for name in DEFAULT_JOB]
    settings = make_settings()
    points = [make_try_point(Try(*choice, 0), tmp_path) for choice in untuned]
    assert {p.settings["step_size"] for p in points} == {settings["step_size"]}
    names = [line.partition(":")[0].partition("-")[0] for line in settings["methods"]]
    assert [choice.line.partition(":")[0] for choice in untuned] == names
    free = {"methods", "run_dir", "evaluate_clients", "checkpoint_every"}
    free |= {"stop_after_rejected"}
    for point in points:
        differ = {
            name
            for name, value in settings.flat().items()
            if point.settings[name] != value
        }
        assert differ <= free


def make_records(valid=lambda one: VALID.get(one.factor, 0.1)):
    """Return the records of a search whose accuracies are made up."""
    tries = list_search(list(DEFAULT_JOB), TUNING_SEEDS)
    return [Record(*one, valid(one), None, None, 9.0, 10) for one in tries]


def test_the_best_in_the_mean_is_chosen_and_reported():
    records = make_records()
    search = Search(records)
    assert search.seeds == TUNING_SEEDS
    for name in DEFAULT_JOB:
        assert search.choose(CONTENDERS[name]) == find_untuned(CONTENDERS[name])
    best = Choice("fedbuff:size=5,step=1", 2.0)
    search = Search(make_records(lambda one: 0.9 if one[:2] == best else 0.5))
    assert search.choose(CONTENDERS["FedBuff"]) == best
    tries = list_reports(search, ["FedBuff"], (0, 1))
    untuned = find_untuned(CONTENDERS["FedBuff"])
    assert tries == [
        Try(*choice, seed) for choice in (untuned, best) for seed in (0, 1)
    ]


@pytest.mark.parametrize(("noise", "is_sure"), [(0.0, True), (0.2, False)])
def test_another_step_size_must_lead_by_more_than_the_noise(noise, is_sure):
    def judge(one):
        lead = 0.05 if one.factor == 0.5 else 0.0
        sign = {100: -1.0, 101: 0.0, 102: 1.0}[one.seed]
        return 0.6 + lead + (noise * sign if one.factor == 0.5 else 0.0)

    verdict = Search(make_records(judge)).judge_step()
    assert verdict.best == 0.5 and verdict.lead.mean == pytest.approx(0.05)
    assert verdict.is_sure is is_sure


def test_times_that_were_not_reached_are_infinite():
    choice = Choice("sgd", 1.0)
    rows = [
        ("sgd", 1.0, 1, None, 0.9, None, 5.0, 1),
        ("sgd", 1.0, 0, None, 0.8, 3.0, 5.0, 1),
    ]
    reported = collect_reported([Record(*row) for row in rows], choice)
    assert reported.accuracy.tolist() == [0.8, 0.9]
    assert reported.to_target.tolist() == [3.0, np.inf]


TINY = ("--num-updates", "20", "--seeds", "0", "1", "--tuning-seeds", "100", "101")


def test_the_script_writes_results_and_page_and_goes_on(tmp_path):
    where = ("--out", str(tmp_path / "runs"), "--docs", str(tmp_path / "docs"))
    done = run_script(
        "fair_comparison.py", *where, *TINY, "--methods", "FedAvg", "SGD", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "docs" / "fair_comparison.json").read_text())
    search = [Record(*values) for values in results["search"]]
    tries = {}
    for record in search:
        tries.setdefault(record.seed, []).append((record.line, record.factor))
        assert record.test is record.to_target is None
        assert record.valid is not None and 0 <= record.valid <= 1
    assert {len(own) for own in tries.values()} == {2 * NUM_TRIES}
    assert set(tries) == {100, 101}
    reported = [Record(*values) for values in results["reported"]]
    assert {record.seed for record in reported} == {0, 1}
    assert all(record.valid is None and record.time > 0 for record in reported)
    devices = {record.line.partition(":")[0]: record.devices for record in reported}
    assert devices == {"fedavg": 10, "sgd": 1}

    page = (tmp_path / "docs" / "fair_comparison.md").read_text()
    assert page == write_fair_page(results)
    (mine,) = re.findall(r"^\| SGD \| 1 \| ([\d.]+)% ", page, re.MULTILINE)
    best = Search(search).choose(CONTENDERS["SGD"])
    own = [record.test or 0.0 for record in reported if record[:2] == best]
    assert float(mine) == pytest.approx(100 * np.mean(own), abs=0.006)

    # Nothing is run again, and the page alone needs no runs.
    again = run_script(
        "fair_comparison.py", *where, *TINY, "--methods", "FedAvg", "SGD", cwd=tmp_path
    )
    assert again.stdout.count(" 0 to run") == 2
    (tmp_path / "docs" / "fair_comparison.md").unlink()
    run_script("fair_comparison.py", *where, "--no-run", cwd=tmp_path)
    assert (tmp_path / "docs" / "fair_comparison.md").read_text() == page


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--methods", "FedAvg", "x"), "methods must be some of FedAsync constant; "),
        (("--methods", "SGD"), "methods must have FedAvg, which all are compared with"),
        (("--seeds", "0", "100"), "seeds must be none of the tuning_seeds, got 100"),
        (("--seeds", "0"), "seeds must be two or more, got 0"),
        (("--num-updates", "0"), "num_updates must be > 0, got 0"),
        (("--no-run", "--docs", "nowhere"), "docs must have a fair_comparison.json "),
    ],
)
def test_bad_input_is_one_line(words, line, tmp_path):
    done = run_script("fair_comparison.py", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {line}") and done.stderr.count("\n") == 1
