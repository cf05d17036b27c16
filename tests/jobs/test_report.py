"""Reports: the final table, notes and checks of runs, by hand."""

import dataclasses
import warnings

import numpy as np
import pytest

from fedasync_jax.experiment.build import (
    Experiment,
    build_experiment,
    build_workload,
    make_methods,
)
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.experiment.records import Method
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.jobs import report, runner
from fedasync_jax.jobs.callbacks import Outcome
from fedasync_jax.mixing import make_weights, staleness
from fedasync_jax.schedule.timeline import make_timeline

_METHODS = ("fedasync-polynomial", "fedavg", "sgd")


def _settings(**fields) -> Settings:
    small = {
        "num_clients": 12,
        "clients_per_round": 4,
        "concurrency": 6,
        "hidden": (4,),
        "num_updates": 40,
        "eval_every": 10,
        "methods": _METHODS,
    }
    return make_settings(**{**small, **fields})


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """One small job, whose numbers are replaced by others."""
    built = build_experiment(_settings())
    return [runner.run_method(built, method) for method in built.methods]


def _build(**fields) -> Experiment:
    """Return an experiment whose methods need not run."""
    settings = _settings(**fields)
    workload = build_workload(settings)
    methods = list(make_methods(settings, workload))
    variables = workload.model.init(settings.make_key("init"))
    return Experiment(
        settings=settings,
        workload=workload,
        initialized=variables,
        variables=variables,
        methods=methods,
    )


def _tell(outcome: Outcome, accuracy, times=None) -> Outcome:
    """Return the outcome as if these had been its evaluations."""
    times = [10.0 * i for i in range(len(accuracy))] if times is None else times
    rows = [
        {**outcome.rows[-1], "test_accuracy": a, "virtual_time": time}
        for a, time in zip(accuracy, times, strict=True)
    ]
    return outcome._replace(rows=rows)


def _mixed(outcome: Outcome, **columns) -> Outcome:
    """Return the outcome with other columns of its updates."""
    updates = outcome.result.updates._replace(**columns)
    return outcome._replace(result=outcome.result._replace(updates=updates))


# The final table


def test_the_target_is_what_all_reach_and_its_time_the_first(outcomes):
    told = [
        _tell(outcomes[0], [0.1, 0.652, 0.9, 0.3]),
        _tell(outcomes[1], [0.2, 0.66, 0.65, 0.6], [0.0, 7.0, 9.0, 11.0]),
        _tell(outcomes[2], [0.649, 0.5, 0.655, 0.656], [0.0, 1.0, 2.5, 3.0]),
    ]
    rows = report.summarize_all(told)
    assert [row["target_accuracy"] for row in rows] == [0.65] * 3
    assert [row["time_to_target"] for row in rows] == [10.0, 7.0, 2.5]


def test_a_target_that_is_reached_from_the_start_takes_no_time(outcomes):
    rows = report.summarize_all([_tell(outcomes[0], [0.5, 0.4])])
    assert (rows[0]["target_accuracy"], rows[0]["time_to_target"]) == (0.5, 0.0)


@pytest.mark.parametrize("percent", [0, 1, 29, 57, 58, 99, 100])
def test_a_whole_per_cent_is_its_own_target(outcomes, percent):
    (row,) = report.summarize_all([_tell(outcomes[0], [0.0, percent / 100])])
    assert row["target_accuracy"] == pytest.approx(percent / 100)
    assert row["time_to_target"] == (10.0 if percent else 0.0)


def test_without_a_clock_there_is_no_time_to_a_target(outcomes):
    told = outcomes[0]._replace(method=outcomes[0].method._replace(has_clock=False))
    (row,) = report.summarize_all([told])
    assert not {"target_accuracy", "time_to_target"} & set(row)


def test_devices_are_those_at_work_at_a_time(outcomes):
    rows = report.summarize_all(outcomes)
    assert [row["devices"] for row in rows] == [6, 4, 1]
    lines = ("fedavg:clients=4,over_selection=0.5", "fedprox:clients=3")
    built = _build(methods=lines, num_updates=24)
    told = [outcomes[1]._replace(method=method) for method in built.methods]
    assert [report.summarize(one)["devices"] for one in told] == [6, 3]
    sampled = outcomes[0].method._replace(has_clock=False)
    assert report.summarize(outcomes[0]._replace(method=sampled))["devices"] is None


def test_a_line_sums_up_the_last_ten_evaluations(outcomes):
    accuracy = [0.99, 0.01, *np.linspace(0.5, 0.68, 10)]
    row = report.summarize(_tell(outcomes[0], accuracy, list(range(12))))
    assert row["test_accuracy_mean"] == pytest.approx(0.59)
    assert row["test_accuracy_min"] == 0.5
    assert row["virtual_time"] == 11
    assert row["method"] == "FedAsync polynomial(0.5)"
    last_two = report.summarize(_tell(outcomes[0], accuracy), num_last=2)
    assert last_two["test_accuracy_mean"] == pytest.approx(0.67)
    assert "test_perplexity_mean" not in row


def test_a_line_has_the_mean_staleness_and_alpha_of_fedasync_alone(outcomes):
    rows = report.summarize_all(outcomes)
    trace = outcomes[0].method.trace
    assert rows[0]["mean_staleness"] == pytest.approx(trace.staleness.mean())
    alpha = 0.6 * (trace.staleness + 1.0) ** -0.5
    assert rows[0]["mean_alpha"] == pytest.approx(alpha.mean())
    for row in rows[1:]:
        assert row["mean_staleness"] is row["mean_alpha"] is None
    for outcome, row in zip(outcomes, rows, strict=True):
        last = outcome.rows[-1]
        for name in ("gradients", "virtual_time", "rejected", "lost"):
            assert row[name] == last[name]
        assert row["wall_seconds"] == outcome.wall_seconds > 0


def test_a_perplexity_that_is_not_finite_is_none(outcomes):
    def tell(perplexities):
        rows = [{**outcomes[0].rows[-1], "test_perplexity": p} for p in perplexities]
        row = report.summarize(outcomes[0]._replace(rows=rows))
        return row["test_perplexity_mean"], row["test_perplexity_max"]

    assert tell([8.0, 2.0, 5.0]) == (5.0, 8.0)
    assert tell([8.0, None, 5.0]) == (None, None)


def test_what_is_saved_of_the_arrivals(outcomes):
    arrays = report.arrivals(outcomes[0])
    trace, updates = outcomes[0].method.trace, outcomes[0].result.updates
    assert {len(array) for array in arrays.values()} == {40}
    assert not {"task", "read_slot", "write_slot"} & set(arrays)
    for name in ("client", "start_version", "arrival_time", "work_end_time"):
        np.testing.assert_array_equal(arrays[name], getattr(trace, name))
    np.testing.assert_array_equal(arrays["staleness"], trace.staleness)
    np.testing.assert_array_equal(arrays["alpha"], updates.alpha)
    # Tasks of one round start together, which is no staleness.
    assert not report.arrivals(outcomes[1])["staleness"].any()


# Timelines


def test_timelines_show_the_same_clients_for_all_methods():
    built = _build(num_clients=50, num_updates=400)
    asynchronous, rounds, sgd = built.methods
    timelines = [report.sample_timeline(built, m) for m in (asynchronous, rounds)]
    assert timelines[0] is not None and timelines[1] is not None
    assert rounds.models is not None
    ends = rounds.trace.client[rounds.models[:5] - 1].tolist()
    others = built.settings.make_rng("timeline").permutation(50).tolist()
    sample = set(list(dict.fromkeys([*ends, *others]))[:30])
    for timeline in filter(None, timelines):
        shown = set(timeline.client.tolist())
        assert shown <= sample
        assert len(shown) > 20  # who has no task in that time is idle
    assert report.sample_timeline(built, sgd) is None


def test_a_timeline_is_that_of_the_method_and_shows_every_client_of_a_few():
    built = _build()
    method = built.methods[0]
    timeline = report.sample_timeline(built, method)
    expected = make_timeline(method.trace, method.fleet, range(12))
    assert timeline is not None
    for found, column in zip(timeline, expected, strict=True):
        np.testing.assert_array_equal(found, column)


def test_a_timeline_ends_where_it_would_be_too_dense():
    """At 40 tasks of a client in the mean: of 12 clients, 480 of 960 tasks."""
    built = _build(num_updates=960, client_law="constant")
    timeline = report.sample_timeline(built, built.methods[0])
    end = built.methods[0].trace.arrival_time[-1]
    assert timeline is not None
    assert 0.45 * end < timeline.end.max() <= 0.5 * end


def test_of_a_large_fleet_those_are_shown_who_take_part():
    built = _build(num_clients=1001, partition="replacement")
    for method in built.methods[:2]:
        timeline = report.sample_timeline(built, method)
        assert timeline is not None
        shown = set(timeline.client.tolist())
        part = {*method.trace.client.tolist(), *method.trace.lost.client.tolist()}
        assert shown <= part
        assert 25 <= len(shown) <= 30 < len(part)  # some begin in the last moment


def test_sampled_staleness_has_no_timeline():
    built = _build(schedule="sampled")
    assert [report.sample_timeline(built, method) for method in built.methods] == (
        [None] * 3
    )


# Notes


def _slowed(method: Method, delays, s=None) -> Method:
    delays = np.asarray(delays, np.int32)
    weights = method.staleness_weights if s is None else np.asarray(s(delays))
    return method._replace(staleness=delays, staleness_weights=weights)


def test_a_note_tells_of_arrivals_that_hardly_count(outcomes):
    method, s = outcomes[0].method, staleness.hinge(10.0, 4.0)
    # 1 / (10 (d - 4) + 1) < 5% from d = 6 on.
    assert report.list_notes(_slowed(method, [5, 5, 5, 6, 90], s)) == []
    (note,) = report.list_notes(_slowed(method, [5, 6, 6, 91], s))
    assert note == (
        "FedAsync polynomial(0.5): 75% of the arrivals will count for less than 5% of "
        "alpha; their staleness is 27 in the mean, 6 in the median, which this "
        "function hardly tolerates"
    )
    assert report.list_notes(_slowed(method, [5, 5, 6, 6], s)) != []  # from half on


def test_a_baseline_is_never_too_stale(outcomes):
    for outcome in outcomes[1:]:
        assert report.list_notes(_slowed(outcome.method, [1000] * 40)) == []


def test_a_note_tells_of_a_run_that_ends_early(outcomes):
    for outcome in outcomes:
        trace = dataclasses.replace(outcome.method.trace, ended="it was too late")
        (note,) = report.list_notes(outcome.method._replace(trace=trace))
        name, count = outcome.method.name, f"{trace.num_updates:,}"
        assert note == f"{name} ends after {count} updates: it was too late"


def test_notes_come_together(outcomes):
    method, s = outcomes[0].method, staleness.hinge(10.0, 4.0)
    trace = dataclasses.replace(method.trace, ended="it was too late")
    notes = report.list_notes(_slowed(method, [50] * 40, s)._replace(trace=trace))
    assert [note.split()[2] for note in notes] == ["ends", "100%"]


# Checks


def test_a_good_run_has_nothing_to_tell_of(outcomes):
    assert [report.check(outcome) for outcome in outcomes] == [[], [], []]


@pytest.mark.parametrize("row", [1, 17, 39])
def test_a_weight_that_is_too_large_is_told(outcomes, row):
    alpha = np.array(outcomes[0].result.updates.alpha)
    alpha[row] *= 1.001
    name = outcomes[0].method.name
    assert report.check(_mixed(outcomes[0], alpha=alpha)) == [
        f"{name}: staleness: alpha_t is not alpha s(d) at {row}"
    ]


@pytest.mark.parametrize("row", [0, 17, 39])
def test_a_weight_that_is_too_small_is_told(outcomes, row):
    alpha = np.array(outcomes[0].result.updates.alpha)
    alpha[row] *= 0.999
    (line,) = report.check(_mixed(outcomes[0], alpha=alpha))
    assert line.endswith(f"alpha_t is not alpha s(d) at {row}")


def test_the_weights_of_another_staleness_function_are_told(outcomes):
    method = outcomes[0].method
    weights = make_weights(0.6, staleness.polynomial(0.4), method.staleness)
    method = method._replace(expected_alpha=weights)
    assert len(report.check(outcomes[0]._replace(method=method))) == 1


def test_alpha_may_fall_in_the_course_of_a_run(outcomes):
    alpha = np.array(outcomes[0].result.updates.alpha)
    alpha[20:] *= 0.5
    assert len(report.check(_mixed(outcomes[0], alpha=alpha))) == 1  # not by itself
    method = outcomes[0].method._replace(expected_alpha=alpha.copy())
    outcome = outcomes[0]._replace(method=method)
    assert report.check(_mixed(outcome, alpha=alpha)) == []


def test_the_weight_of_what_was_not_mixed_is_no_matter(outcomes):
    updates = outcomes[0].result.updates
    alpha, applied = np.array(updates.alpha), np.ones(40, bool)
    alpha[[5, 20]], applied[[5, 20]] = 0.0, False
    assert report.check(_mixed(outcomes[0], alpha=alpha, applied=applied)) == []
    assert len(report.check(_mixed(outcomes[0], alpha=alpha))) == 1
    alpha[30] *= 1.1
    (line,) = report.check(_mixed(outcomes[0], alpha=alpha, applied=applied))
    assert line.endswith(" at 30")


def test_the_weights_of_a_baseline_are_those_of_its_mean(outcomes):
    alpha = np.ones(40, np.float32)
    assert report.check(_mixed(outcomes[1], alpha=alpha)) == []


@pytest.mark.parametrize("method", range(3))
def test_a_wrong_schedule_is_told(outcomes, method):
    outcome = outcomes[method]
    trace = outcome.method.trace
    arrival = trace.arrival_time.copy()
    arrival[1] = arrival[-1] + 1
    wrong = dataclasses.replace(trace, arrival_time=arrival, work_end_time=arrival)
    lines = report.check(outcome._replace(method=outcome.method._replace(trace=wrong)))
    line = f"{outcome.method.name}: time: arrival 2 comes before arrival 1"
    assert lines[0] == line


def test_a_client_that_is_away_is_told_of_where_there_is_a_clock(outcomes):
    outcome = outcomes[0]
    trace = dataclasses.replace(
        outcome.method.trace, client=np.zeros(40, np.int32)
    )  # all tasks on one client
    method = outcome.method._replace(trace=trace)
    assert len(report.check(outcome._replace(method=method))) == 1
    without = method._replace(has_clock=False)
    assert report.check(outcome._replace(method=without)) == []


def test_sampled_staleness_is_in_order():
    built = _build(schedule="sampled", num_updates=200)
    for method in built.methods:
        assert report.find_violations(method.trace) == []


@pytest.mark.parametrize("largest", [289, 290, 300, 2000])
def test_weights_that_vanish_are_in_order(outcomes, largest):
    """A weight exp(-0.3 d) below 1e-38 is 0 on the device."""
    outcome, fn = outcomes[0], staleness.exponential(0.3)
    versions = outcome.method.trace.start_version.copy()
    trace = dataclasses.replace(outcome.method.trace, start_version=versions)
    delays = trace.staleness.copy()
    delays[20] = largest
    versions[20] = 20 - largest
    alpha = np.asarray(np.float32(0.6) * np.asarray(fn(delays)), np.float32)
    alpha[alpha < np.finfo(np.float32).tiny] = 0.0
    expected = make_weights(0.6, fn, delays)
    method = outcome.method._replace(
        trace=trace, expected_alpha=expected, has_clock=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines = report.check(_mixed(outcome._replace(method=method), alpha=alpha))
    assert not [line for line in lines if "alpha_t" in line]


def test_language_models_are_not_timed_by_their_accuracy(outcomes):
    told = [
        outcome._replace(rows=[{**row, "test_perplexity": 9.0} for row in outcome.rows])
        for outcome in outcomes
    ]
    for row in report.summarize_all(told):
        assert row["test_perplexity_mean"] == 9.0
        assert "time_to_target" not in row


def test_a_timeline_has_those_for_whom_the_first_rounds_wait():
    built = _build(num_clients=60, methods=("fedasync-constant", "fedavg"))
    rounds = built.methods[1]
    assert rounds.models is not None
    ends = rounds.models[:5]
    waited_for = set(rounds.trace.client[ends - 1].tolist())
    for method in built.methods:
        timeline = report.sample_timeline(built, method)
        assert timeline is not None
        shown = set(timeline.client.tolist())
        assert waited_for & set(method.trace.client.tolist()) <= shown
