"""The real server in simulated time, with nodes that do it harm."""

import numpy as np
import pytest

pytest.importorskip("flwr")

from benchmarks.flower_attacks import (
    DEADLINES_ALONE,
    Flags,
    run_with_hostile,
    run_with_silent,
)

SECONDS = 5400.0


def test_without_silent_nodes_no_place_is_ever_empty():
    assert len(run_with_silent(0, 600.0).arrivals) == 8 * 600 / 5


def test_silent_nodes_leave_four_fifths_of_the_updates_and_no_long_pause():
    server = run_with_silent(16, SECONDS)
    times = [0.0, *(arrival.arrival_time for arrival in server.arrivals), SECONDS]
    undisturbed = 8 * SECONDS / 5  # places in flight, seconds of a task
    assert len(server.arrivals) >= 0.8 * undisturbed
    assert np.diff(times).max() <= 3 * 60


def test_deadlines_alone_do_not_hold_against_silent_nodes():
    server = run_with_silent(16, SECONDS, DEADLINES_ALONE)
    assert len(server.arrivals) < 0.1 * 8 * SECONDS / 5


@pytest.mark.parametrize("kind", ["a jump of norm 999", "not a number"])
def test_what_hostile_nodes_send_is_refused_and_nothing_of_the_honest(kind):
    outcome = run_with_hostile(kind, Flags(num_updates=40), seed=0)
    assert outcome.mixed == 0 and outcome.blamed == 0
    assert outcome.refused >= 3
