"""Choices and regrets, worked out by hand on made-up results."""

import numpy as np
import pytest

from fedasync_jax.leaderboard.board import TASKS, Cell, find_protocol, list_cells
from fedasync_jax.leaderboard.entries import (
    ENTRIES,
    OURS,
    PUBLISHED,
    STEP_FACTORS,
    SYNCHRONOUS,
    TUNING_SEEDS,
    Contender,
    list_choices,
)
from fedasync_jax.leaderboard.page import TITLE, write_page
from fedasync_jax.leaderboard.regret import (
    collect_finals,
    find_winners,
    list_published,
    stand,
)
from fedasync_jax.leaderboard.results import Ran

SEEDS = (0, 1)
PUB, OTHER, SYNC, OWN_RULE = "delta", "fedbuff", "fedavg", "tethered"
MADE = {
    PUB: Contender(PUBLISHED, ("delta", "delta:step=0.2")),
    OTHER: Contender(PUBLISHED, ("fedbuff",)),
    SYNC: Contender(SYNCHRONOUS, ("fedavg",)),
    OWN_RULE: Contender(OURS, ("tethered",)),
}
CELLS = [Cell("digits", "mobile", 5, "IID"), Cell("digits", "mobile", 20, "IID")]


def make_results(accuracy, best_factor=1.0, times=None):
    """Return runs of all entries: accuracy[cell][name] with every seed's offset."""
    results = []
    for cell, of_cell in zip(CELLS, accuracy, strict=True):
        for name, entry in MADE.items():
            for line, factor in list_choices(entry):
                for seed in (*TUNING_SEEDS, *SEEDS):
                    tuned = line == entry.lines[-1] and factor == best_factor
                    value = (
                        of_cell[name] + (0.02 if tuned else 0.0) + 0.01 * (seed == 1)
                    )
                    results.append(
                        Ran(
                            "p", *cell[1:], line, factor, seed, 10, value, value,
                            None if times is None else times[name], 1.0,
                        )
                    )  # fmt: skip
    return results


FIRST = {PUB: 0.8, OTHER: 0.7, SYNC: 0.95, OWN_RULE: 0.85}
SECOND = {PUB: 0.6, OTHER: 0.65, SYNC: 0.1, OWN_RULE: 0.6}


def test_the_choice_is_made_on_validation_accuracy_alone():
    results = [
        ran._replace(test_accuracy=1 - ran.valid_accuracy)
        for ran in make_results([FIRST, SECOND], best_factor=2.0)
    ]
    finals = collect_finals("digits", MADE, results, SEEDS)
    assert finals.cells == CELLS
    assert finals.tuned[PUB].choices == [("delta:step=0.2", 2.0)] * 2
    assert finals.untuned[PUB].choices == [("delta", 1.0)] * 2
    assert np.allclose(finals.tuned[PUB].accuracy[0], [0.18, 0.17])


def test_regret_by_hand():
    finals = collect_finals("digits", MADE, make_results([FIRST, SECOND]), SEEDS)
    published = list_published(MADE)
    assert published == [PUB, OTHER] and find_winners(finals, published) == [PUB, OTHER]
    mine = stand(finals, published, finals.untuned[OWN_RULE])
    # Tuned, delta has 0.82 and 0.62, FedBuff 0.72 and 0.67; tethered has 0.87 and 0.62.
    assert mine.mean.mean == pytest.approx((0.82 - 0.87 + 0.67 - 0.62) / 2)
    assert mine.mean.n == 2 and mine.worst == pytest.approx(0.05)
    assert mine.worst_cell == CELLS[1]
    of_delta = stand(finals, published, finals.untuned[PUB])
    assert of_delta.mean.mean == pytest.approx((0.02 + 0.07) / 2)


def test_times_are_compared_where_both_reach_the_target():
    times = {PUB: 30.0, OTHER: 20.0, SYNC: 80.0, OWN_RULE: None}
    finals = collect_finals(
        "digits", MADE, make_results([FIRST, SECOND], times=times), SEEDS
    )
    published = list_published(MADE)
    in_rounds = stand(finals, published, finals.untuned[SYNC])
    assert in_rounds.slowdown == pytest.approx(4) and in_rounds.reached == 2
    never = stand(finals, published, finals.untuned[OWN_RULE])
    assert never.slowdown is None and never.reached == 0


def test_a_cell_counts_when_every_method_was_run_in_it():
    results = make_results([FIRST, SECOND])
    missing = [r for r in results if not (r.in_flight == 5 and r.line == "fedavg")]
    assert collect_finals("digits", MADE, missing, SEEDS).cells == CELLS[1:]
    late = [r for r in results if not (r.line == "fedavg" and r.seed == SEEDS[-1])]
    assert collect_finals("digits", MADE, late, SEEDS).cells == []


def test_the_page_says_who_is_ahead_whichever_way_it_goes():
    good = {**SECOND, OWN_RULE: 0.9}
    pages = [
        write_page(
            MADE,
            {"digits": collect_finals("digits", MADE, make_results(a), SEEDS)},
            SEEDS,
        )
        for a in ([FIRST, good], [{**FIRST, OWN_RULE: 0.3}, SECOND])
    ]
    assert all(page.startswith(TITLE) for page in pages)
    assert "ahead of the best tuned published rule" in pages[0]
    assert "behind the best tuned published rule" in pages[1]
    assert "It beats 3 of 3 others that are tuned." in pages[0]
    assert "It beats 0 of 3 others that are tuned; ahead of it are delta" in pages[1]


def test_all_entries_are_tuned_with_the_same_care():
    assert {len(list_choices(entry)) for entry in ENTRIES.values()} == {9}
    assert len(STEP_FACTORS) == 3 and not set(TUNING_SEEDS) & set(range(50))
    first = [list_choices(entry)[0] for entry in ENTRIES.values()]
    assert first == [(entry.lines[0], 1.0) for entry in ENTRIES.values()]


def test_a_protocol_changes_with_the_settings_of_its_task(monkeypatch):
    before = {task: find_protocol(task) for task in TASKS}
    assert len(set(before.values())) == len(TASKS)
    task = TASKS["digits"]
    monkeypatch.setitem(TASKS, "digits", task._replace(target=0.5))
    assert find_protocol("digits") != before["digits"]
    assert find_protocol("synthetic") == before["synthetic"]
    assert len(list_cells("synthetic")) == 27
