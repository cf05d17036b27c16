"""The history: rows and evaluations come back in order, one evaluation late."""

import numpy as np

from fedasync_jax.base import Variables
from fedasync_jax.engine.history import Evaluation, History, Updates


def make_rows(begin, end, padding=0):
    """Rows whose loss is their number, and padding that must not be seen."""
    loss = np.concatenate([np.arange(begin, end, dtype=float), np.full(padding, -1.0)])
    return Updates(alpha=loss / 100, applied=loss % 2 == 0, loss=loss)


def make_history(version=0):
    """Return a history whose models are numbers, and the calls it will make."""
    calls = []
    history = History(
        version,
        lambda variables: {"w": variables.params},
        lambda evaluation, updates: calls.append((evaluation, updates.loss.tolist())),
    )
    return history, calls


def test_an_evaluation_is_fetched_when_the_next_one_is_enqueued():
    history, calls = make_history()
    history.evaluate(0, Variables(10))
    assert calls == []
    history.add(make_rows(0, 3, padding=1), slice(3))
    history.evaluate(3, Variables(13))
    assert calls == [(Evaluation(0, {"w": 10}), [])]
    history.flush()
    assert calls[1:] == [(Evaluation(3, {"w": 13}), [0, 1, 2])]
    history.flush()  # nothing waits any more
    assert len(calls) == 2
    assert history.evaluations == [evaluation for evaluation, _ in calls]


def test_evaluations_inside_of_a_call_divide_its_rows():
    history, calls = make_history()
    history.evaluate(0, Variables(0))
    history.add(make_rows(0, 2), slice(2))
    history.add(make_rows(2, 7, padding=3), slice(5))
    history.evaluate(3, Variables(0))
    history.evaluate(6, Variables(0))
    history.add(make_rows(7, 9, padding=2), slice(2))
    history.evaluate(9, Variables(0))
    history.flush()
    assert [e.version for e, _ in calls] == [0, 3, 6, 9]
    assert [rows for _, rows in calls] == [[], [0, 1, 2], [3, 4, 5], [6, 7, 8]]
    updates = history.updates()
    assert updates.loss.tolist() == list(range(9))
    np.testing.assert_array_equal(updates.alpha, np.arange(9) / 100)
    assert updates.applied.dtype == bool
    assert updates.applied.tolist() == [row % 2 == 0 for row in range(9)]


def test_a_history_may_begin_at_a_later_version():
    history, calls = make_history(version=5)
    history.add(make_rows(5, 9), slice(4))
    history.evaluate(8, Variables(0))
    history.flush()
    assert calls == [(Evaluation(8, {"w": 0}), [5, 6, 7])]


def test_rows_of_a_run_may_lie_between_those_of_others():
    history, calls = make_history()
    history.add(make_rows(0, 6), np.array([1, 2, 5]))
    history.evaluate(3, Variables(0))
    history.flush()
    assert calls == [(Evaluation(3, {"w": 0}), [1, 2, 5])]


def test_without_a_function_the_metrics_are_empty():
    history = History(0, None, None)
    history.evaluate(0, Variables(7))
    history.flush()
    assert history.evaluations == [Evaluation(0, {})]


def test_a_history_of_nothing_has_no_rows():
    updates = make_history()[0].updates()
    assert [len(column) for column in updates] == [0, 0, 0]
    assert updates.applied.dtype == bool
