"""Beside others: equal grids, numbers off curves, commands, and the script's end."""

import json

import numpy as np
import pytest
from commands import run_script

from fedasync_jax.cli.train_flags import parse_train
from fedasync_jax.experiment.build import build_workload
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.estimates import estimate
from reproduction.beside.measures import find_target, reach, resample
from reproduction.beside.methods import (
    CONTESTANTS,
    SEEDS,
    TUNING_SEEDS,
    choose_try,
    is_at_end,
)
from reproduction.beside.page import write_page
from reproduction.beside.published import (
    MOST_SAMPLES,
    PUBLISHED,
    list_draws,
    write_command,
)
from reproduction.beside.runs import Size, list_reported, list_tuning
from reproduction.beside.tables import decide
from reproduction.beside.unmet import UNMET

# The runs


def test_every_method_has_as_many_tries_all_of_them_different():
    assert {len(contestant.tries) for contestant in CONTESTANTS.values()} == {4}
    for contestant in CONTESTANTS.values():
        assert len(set(contestant.tries)) == len(contestant.tries)
        assert len({one.slug for one in contestant.tries}) == len(contestant.tries)


def test_seeds_that_choose_are_not_reported():
    assert not set(SEEDS) & set(TUNING_SEEDS)
    assert len(SEEDS) >= 5


def test_the_best_mean_wins_and_of_equals_the_first():
    assert choose_try([[0.25, 0.25], [0.75, 0.0], [0.5, 0.25]]) == 1
    assert choose_try([[0.2], [0.2]]) == 0


def test_a_weight_at_an_end_of_its_grid_is_known():
    ends = [is_at_end("delta", place) for place in range(4)]
    assert ends == [True, False, True, False]  # 0.1, 0.2, 0.4, 0.2
    assert not is_at_end("FedAvg", 0)


def test_runs_differ_in_nothing_but_method_seed_and_length(tmp_path):
    size = Size(num_updates=60, num_tuning_updates=30)
    tuning = list_tuning(size, tmp_path)
    reported = list_reported(size, dict.fromkeys(CONTESTANTS, 3), tmp_path)
    assert len(tuning) == 5 * 4 * 2 and len(reported) == 5 * 5
    assert len({run.point.path for run in (*tuning, *reported)}) == 65
    free = {"methods", "seed", "rho", "num_updates", "eval_every"}
    flat = [run.point.settings.flat() for run in (*tuning, *reported)]
    kept = [{k: v for k, v in one.items() if k not in free} for one in flat]
    assert all(one == kept[0] for one in kept)
    assert kept[0]["valid_share"] > 0 and kept[0]["hidden"] == ()
    (mu,) = {one["methods"][0].split("rho=")[-1] for one in flat if _is_prox(one)}
    assert mu == "1"


def _is_prox(flat):
    return flat["methods"][0].startswith("fedprox")


# What is read off curves


def _curve(accuracy, step):
    x = [step * i for i in range(len(accuracy))]
    return {"gradients": x, "virtual_time": x, "test_accuracy": accuracy}


def test_the_target_is_reached_by_all_and_by_none_at_its_start():
    curves = {
        "a": [_curve([0.9, 0.2, 0.456, 0.3], 10), _curve([0.0, 0.5, 0.7, 0.9], 20)]
    }
    assert find_target(curves) == 0.45
    assert [reach(one, "gradients", 0.45) for one in curves["a"]] == [20, 20]


def test_curves_of_seeds_share_an_axis_and_keep_their_last_value():
    pair = [_curve([0.0, 1.0, 2.0], 10), _curve([0.0, 1.0, 2.0], 20)]
    x, y = resample(pair, "gradients", "test_accuracy")
    np.testing.assert_allclose(x, [0, 10, 20, 40])
    np.testing.assert_allclose(y, [[0, 1, 2, 2], [0, 0.5, 1, 2]])


@pytest.mark.parametrize(
    ("values", "words"),
    [([1, 2, 1, 2], "up"), ([-1, -2, -1, -2], "down"), ([-1, 1, 2], "undecided")],
)
def test_an_interval_decides_if_it_does_not_hold_zero(values, words):
    assert decide(estimate(values), "up", "down") == words


# Numbers of others


def test_draws_are_the_first_that_are_small():
    draws = list_draws()
    assert [draw.seed for draw in draws] == [0, 1, 2]
    assert all(draw.num_train <= MOST_SAMPLES for draw in draws)
    assert all(1 / 30 < draw.largest_share < 1 for draw in draws)


def _parse(settings):
    words = write_command(settings).split()
    assert words[:2] == ["fedasync", "train"]
    return parse_train(words[2:]).settings


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.slug)
def test_the_command_of_a_published_setting_makes_its_settings(row):
    assert _parse(row.settings) == make_settings(**row.settings)


@pytest.mark.parametrize("row", UNMET, ids=lambda row: row.source)
def test_the_command_of_what_is_missing_is_refused_for_its_path_alone(row, tmp_path):
    settings = _parse({**row.settings, "data_path": tmp_path / "missing"})
    with pytest.raises(ValueError, match="missing") as refused:
        build_workload(settings)
    assert "\n" not in str(refused.value)


# The script


def _run(tmp_path, *more):
    return run_script(
        "beside_others.py",
        *("--out", tmp_path / "runs", "--docs", tmp_path / "docs"),
        *("--num-updates", 10, "--num-tuning-updates", 10),
        *("--seeds", 0, 1, "--tuning-seeds", 100, "--no-published", *more),
        import_anew=True,
    )


def test_the_script_to_its_end_and_again(tmp_path):
    first = _run(tmp_path)
    assert first.returncode == 0, first.stderr
    assert "20 to run" in first.stdout and "10 to run" in first.stdout
    page = tmp_path / "docs" / "beside_others.md"
    text = page.read_text()
    for method in CONTESTANTS:
        assert f"| {method} |" in text
    folder = tmp_path / "docs" / "reproduction" / "beside"
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert len(pictures) == 4
    assert all(f"reproduction/beside/{name}" in text for name in pictures)

    again = _run(tmp_path)
    assert again.stdout.count(", 0 to run") == 2
    page.unlink()
    assert _run(tmp_path, "--no-run").returncode == 0
    assert page.read_text() == text
    results = json.loads((folder / "results.json").read_text())
    assert write_page(results) == text


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--seeds", 100), "seeds must not be tuning seeds, got 100 in both"),
        (("--num-updates", 0), "num_updates must be > 0, got 0"),
        (("--no-run",), "docs must hold reproduction/beside/results.json, got"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, more, line):
    done = _run(tmp_path, *more)
    assert done.returncode == 2 and line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
