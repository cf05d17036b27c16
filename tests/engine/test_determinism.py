"""The promise: same settings and seed, same result, however it is computed.

Within one way of batching, bit for bit: wherever a run was stopped, however often it
was saved, and whichever waves shared a call. Between ways of batching, and where other
versions are evaluated, to the rounding of float32.
"""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from fedasync_jax.engine.batching import Batching
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs import runner
from fedasync_jax.storage.checkpoints import Checkpoints

_JOB = {
    "num_clients": 12,
    "concurrency": 6,
    "num_updates": 50,
    "max_steps": 7,
    "methods": ("fedasync-polynomial",),
}
_BATCHINGS = {
    "one by one": lambda: Batching(max_width=1),
    "narrow": lambda: Batching(max_width=3),
    "all at once": lambda: Batching(max_width=64),
    "mixed by products": lambda: Batching(max_width=64, product=True),
    "in chunks": lambda: Batching(max_width=64, chunk=3),
    "two devices": lambda: Batching(
        max_width=64, chunk=2, mesh=Mesh(np.array(jax.devices()[:2]), ("devices",))
    ),
    "large tasks": lambda: Batching(max_width=1, one_at_a_time=True),
}


@pytest.fixture(scope="module")
def built():
    return build_experiment(make_settings(**_JOB))


def _run(built, batching, eval_every=10, folder=None, stops=()):
    """Run; with stops, stop after as many waves each time and then go on to the end."""
    method = built.methods[0]._replace(eval_every=eval_every)
    if stops:
        batching = dataclasses.replace(batching, call_seconds=0)
    if folder is None:
        return runner.run_method(built, method, batching=batching)

    def go_on(should_stop):
        with Checkpoints(folder, every=1) as checkpoints:
            return runner.run_method(
                built,
                method,
                batching=batching,
                checkpoints=checkpoints,
                should_stop=should_stop,
            )

    for waves in stops:
        answers = iter([False] * waves + [True])
        with pytest.raises(runner.Stopped):
            go_on(lambda answers=answers: next(answers))
    return go_on(lambda: False)


@pytest.fixture(scope="module")
def serial(built):
    """The run that the others are compared with: one task after the other."""
    return _run(built, Batching(max_width=1))


def _leaves(outcome):
    state, updates, _ = outcome.result
    return [np.asarray(leaf) for leaf in jax.tree.leaves((state, updates))]


def _assert_same_bits(first, second):
    for a, b in zip(_leaves(first), _leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def _assert_close(first, second):
    for a, b in zip(_leaves(first), _leaves(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", _BATCHINGS)
def test_result_depends_neither_on_stops_nor_on_evaluations(
    tmp_path, built, serial, name
):
    """Nor on how many waves share a call: one in those that stop, many in the whole."""
    batching = _BATCHINGS[name]()
    wholes = {every: _run(built, batching, every) for every in (10, 7, 50)}
    for every, stops in ((10, (0,)), (10, (1, 0, 2)), (7, (3,)), (50, (2, 2))):
        other = _run(built, batching, every, tmp_path / f"{every}-{stops[0]}", stops)
        _assert_same_bits(other, wholes[every])
        assert other.rows == wholes[every].rows
    due = {row["version"]: row for row in wholes[10].rows}
    for every, whole in wholes.items():
        _assert_close(whole, serial)
        assert len(whole.rows) == -(-50 // every) + 1
        for row in whole.rows:
            loss = due.get(row["version"], row)["test_loss"]
            assert row["test_loss"] == pytest.approx(loss, rel=1e-5)
