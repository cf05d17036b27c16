"""What a method is judged by is what it leaves as its model, resumed or not."""

import jax
import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax.engine.state import find_evaluated
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.job import run_job
from fedasync_jax.storage.run_folder import RunFolder


def run(path, num_updates):
    """Run or go on; return the experiment, the outcome and the exported model."""
    settings = make_settings(
        methods=("fedbuff:size=2,average=2",),
        num_updates=num_updates,
        eval_every=6,
        num_clients=6,
        concurrency=3,
        clients_per_round=2,
        hidden=(4,),
        checkpoint_every=1,
    )
    built = build_experiment(settings)
    with RunFolder(path, {"settings": settings.to_json()}) as folder:
        (outcome,) = run_job(built, folder).outcomes
    shapes = jax.eval_shape(built.workload.model.init, jax.random.key(0))
    model = fa.load_model(path / "fedbuff-size-2-average-2" / "model", shapes)
    return built, outcome, model


def test_an_average_is_judged_exported_and_resumed(tmp_path):
    built, outcome, model = run(tmp_path / "whole", 12)
    state = outcome.result.state
    judged = find_evaluated(outcome.method.mixer, state)
    jax.tree.map(np.testing.assert_array_equal, model, judged)
    leaves = map(jax.tree.leaves, (model.params, state.variables.params))
    assert not all(np.array_equal(*pair) for pair in zip(*leaves, strict=True))
    loss = float(built.workload.evaluate(judged)["loss"])
    assert outcome.rows[-1]["test_loss"] == pytest.approx(loss, rel=1e-6)

    # In two pieces, the buffer half full and the average on its way between them.
    run(tmp_path / "pieces", 7)
    _, again, resumed = run(tmp_path / "pieces", 12)
    jax.tree.map(np.testing.assert_array_equal, resumed, model)
    np.testing.assert_array_equal(
        again.result.updates.alpha, outcome.result.updates.alpha
    )
