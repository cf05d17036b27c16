"""Experiments side by side: each as if it ran alone, stopped and continued as well."""

import jax
import numpy as np
import pytest

from fedasync_jax.engine.batching import Batching
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs import runner
from fedasync_jax.jobs.callbacks import Callback
from fedasync_jax.storage.checkpoints import Checkpoints

_JOB = {
    "num_clients": 12,
    "num_updates": 40,
    "eval_every": 10,
    "clients_per_round": 4,
    "schedule": "sampled",
    "max_staleness": 4,
}
_BATCHING = Batching(max_width=8, call_seconds=0)


def _build(method="fedasync-polynomial", **changes):
    return build_experiment(make_settings(methods=(method,), **{**_JOB, **changes}))


@pytest.fixture(scope="module")
def some():
    """Experiments that differ in seeds and numbers."""
    return [
        _build(seed=0),
        _build("fedasync-hinge", seed=1, alpha=0.9, alpha_drop_at=20),
        _build("fedasync-constant", seed=2, rho=0.1, step_size=0.05, eval_every=7),
    ]


@pytest.fixture(scope="module")
def alone(some):
    """Return what comes of each alone, to be read."""
    return [_alone(built) for built in some]


class _Tell(Callback):
    """Passes metrics and waves on to functions."""

    def __init__(self, row=lambda row: None, wave=lambda versions: None):
        self._row, self._wave = row, wave

    def on_metrics(self, method, row, *, again):
        self._row(row)

    def on_wave(self, versions):
        self._wave(versions)


def _entries(some, folder=None, tell=lambda number, row: None):
    return [
        runner.Entry(
            built,
            built.methods[0],
            _Tell(lambda row, number=number: tell(number, row)),
            None if folder is None else Checkpoints(folder / str(number), every=1),
        )
        for number, built in enumerate(some)
    ]


def _alone(built):
    return runner.run_method(built, built.methods[0], batching=_BATCHING)


def _assert_same(outcome, alone):
    assert isinstance(outcome, runner.Outcome)
    for a, b in zip(*map(jax.tree.leaves, (outcome.result, alone.result)), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-5)
    assert [r["version"] for r in outcome.rows] == [r["version"] for r in alone.rows]
    for mine, theirs in zip(outcome.rows, alone.rows, strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("method", "gradients", "rejected", "step_size", "mean_staleness"):
            assert mine[name] == theirs[name]
        assert mine["test_loss"] == pytest.approx(theirs["test_loss"], rel=1e-4)


def test_experiments_on_one_problem_share_model_and_data(some):
    first, *others = some
    for built in others:
        assert built.workload.model is first.workload.model
        assert built.workload.clients.arrays["x"] is first.workload.clients.arrays["x"]
        mine, theirs = (b.workload.clients.indices for b in (built, first))
        assert not np.array_equal(mine, theirs)


def test_another_problem_is_another_model(some):
    assert _build(hidden=(5,)).workload.model is not some[0].workload.model


@pytest.mark.parametrize("method", ["fedavg", "sgd"])
def test_baselines_side_by_side(method):
    built = [_build(method, seed=seed) for seed in (0, 1)]
    outcomes = runner.run_together(_entries(built), batching=_BATCHING)
    for each, outcome in zip(built, outcomes, strict=True):
        _assert_same(outcome, _alone(each))


def test_each_is_as_if_it_ran_alone(some, alone):
    told = [[], [], []]
    entries = _entries(some, tell=lambda number, row: told[number].append(row))
    outcomes = runner.run_together(entries, batching=_BATCHING)
    for expected, outcome, rows in zip(alone, outcomes, told, strict=True):
        _assert_same(outcome, expected)
        assert isinstance(outcome, runner.Outcome) and rows == outcome.rows


def test_step_sizes_that_follow_from_evaluations():
    some = [
        _build(seed=seed, plateau_factor=0.5, plateau_on="test", eval_every=3)
        for seed in (0, 1)
    ]
    for built, outcome in zip(some, runner.run_together(_entries(some)), strict=True):
        _assert_same(outcome, _alone(built))


def _stop(some, folder, calls):
    answers = iter([False] * calls + [True])
    with pytest.raises(runner.Stopped):
        runner.run_together(
            _entries(some, folder),
            batching=_BATCHING,
            should_stop=lambda: next(answers),
        )


def test_runs_that_were_stopped_go_on_alone(some, alone, tmp_path):
    _stop(some, tmp_path, 3)
    with Checkpoints(tmp_path / "1", every=1) as checkpoints:
        outcome = runner.run_method(
            some[1], some[1].methods[0], batching=_BATCHING, checkpoints=checkpoints
        )
    _assert_same(outcome, alone[1])
    for outcome, expected in zip(
        runner.run_together(_entries(some, tmp_path)), alone, strict=True
    ):
        _assert_same(outcome, expected)


def test_runs_that_were_stopped_go_on_together_bit_for_bit(some, tmp_path):
    whole = runner.run_together(_entries(some), batching=_BATCHING)
    for calls in (2, 0, 3):
        _stop(some, tmp_path, calls)
    again = runner.run_together(_entries(some, tmp_path), batching=_BATCHING)
    for first, second in zip(whole, again, strict=True):
        assert isinstance(first, runner.Outcome)
        assert isinstance(second, runner.Outcome)
        assert first.rows == second.rows
        for a, b in zip(
            *map(jax.tree.leaves, (first.result, second.result)), strict=True
        ):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_stopped_before_all_have_begun(some, alone, tmp_path):
    narrow = Batching(max_width=1)
    with pytest.raises(runner.Stopped):
        runner.run_together(
            _entries(some, tmp_path), batching=narrow, should_stop=lambda: True
        )
    begun = [any((tmp_path / str(number)).glob("*")) for number in range(3)]
    assert begun == [True, False, False]
    for outcome, expected in zip(
        runner.run_together(_entries(some, tmp_path)), alone, strict=True
    ):
        _assert_same(outcome, expected)


def test_one_run_alone_is_bit_for_bit_as_alone(some, alone):
    told = []
    (outcome,) = runner.run_together(
        _entries(some[:1]), batching=_BATCHING, callback=_Tell(wave=told.append)
    )
    assert isinstance(outcome, runner.Outcome)
    results = outcome.result, alone[0].result
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert outcome.rows == alone[0].rows
    assert told[-1] == [40] and told == sorted(told)


def test_calls_are_told_with_the_versions_of_all(some):
    told = []
    runner.run_together(
        _entries(some), batching=_BATCHING, callback=_Tell(wave=told.append)
    )
    assert all(len(versions) == 3 for versions in told)
    sums = [sum(versions) for versions in told]
    assert sums == sorted(set(sums)) and told[-1] == [40, 40, 40]


def test_which_methods_can_run_together():
    def fits(**changes):
        method = changes.pop("method", "fedasync-polynomial")
        both = _build(seed=0), _build(method, **changes)
        one, other = (runner.Entry(built, built.methods[0]) for built in both)
        return runner.can_run_together(one, other)

    assert fits(seed=5, alpha=0.1, max_staleness=9, rho=0.3, step_size=0.9)
    assert fits(method="fedasync-hinge", partition="iid")
    assert not fits(method="fedavg")
    assert not fits(num_updates=41)
    assert not fits(batch_size=3)
    assert not fits(momentum=0.5)
    assert not fits(plateau_factor=0.5, plateau_on="test")
    assert not fits(hidden=(5,))


def test_one_that_diverges_stops_alone(alone, tmp_path):
    fine = _build(seed=0)
    bad = _build(seed=3, step_size=1e30, stop_after_rejected=8, max_update_norm=None)
    with pytest.raises(runner.Diverged) as expected:
        _alone(bad)
    for _ in range(2):  # also when it goes on
        rows = []
        entries = _entries(
            [fine, bad],
            tmp_path,
            tell=lambda n, row, rows=rows: rows.append(row["version"]) if n else None,
        )
        good, diverged = runner.run_together(entries, batching=_BATCHING)
        _assert_same(good, alone[0])
        assert isinstance(diverged, runner.Diverged)
        assert str(diverged) == str(expected.value)
        assert rows == sorted(set(rows)) and rows[-1] < 40


def test_the_one_that_diverges_is_trained_no_more(alone, tmp_path):
    bad = [
        _build(seed=seed, step_size=1e30, stop_after_rejected=8, max_update_norm=None)
        for seed in (3, 4)
    ]
    fine, told = _build(seed=0), []
    (earlier,) = runner.run_together(_entries(bad[:1], tmp_path))
    outcomes = runner.run_together(
        _entries([*bad, fine], tmp_path),
        batching=Batching(max_width=1, call_seconds=0),
        callback=_Tell(wave=told.append),
    )
    assert [type(outcome) for outcome in outcomes[:2]] == [runner.Diverged] * 2
    assert str(outcomes[0]) == str(earlier)
    _assert_same(outcomes[2], alone[0])
    assert 40 < len(told) < 80  # a task a call; 40 are those of the one that is fine


def test_what_cannot_share_a_program_is_refused(some):
    with pytest.raises(ValueError, match="runs must have the same functions in local_"):
        runner.run_together(_entries([some[0], _build(hidden=(5,))]))
