"""Frozen parts: the same bits, no place per slot, and the training of the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedasync_jax as fa
from fedasync_jax.models import freeze, make_classifier, make_lstm_lm

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 5)).astype(np.float32)
DATA = {"x": X, "y": (X[:, 0] > 0).astype(np.int32)}
CLIENTS = fa.data.make_client_data(DATA, fa.data.iid(120, 6, rng=RNG))
TRACE = fa.sampled_staleness(
    6, 20, max_staleness=3, rng=np.random.default_rng(1), num_steps=4
)
RULE = fa.mixing.fedasync(0.6, fa.staleness.polynomial(0.5))


def whole():
    model = make_classifier("mlp", (5,), 2, hidden=(8,))
    return model, model.init(jax.random.key(0))


def is_first(path):
    return path.startswith("params/Dense_0/")


def train(model, start, **more):
    worker = fa.make_local_update(
        model, CLIENTS, optax.sgd(0.3), batch_size=10, max_steps=4, rho=0.1
    )
    return fa.run(TRACE, worker, RULE, start, jax.random.key(1), **more)


def test_it_is_the_run_in_which_the_frozen_part_has_no_gradient():
    model, variables = whole()
    frozen = freeze(model, variables, is_first)

    def stopped(variables, batch, key):
        params = variables.params
        first = jax.lax.stop_gradient(params["Dense_0"])
        held = variables._replace(params={**params, "Dense_0": first})
        return model.loss(held, batch, key)

    expected = train(model._replace(loss=stopped), variables).state.variables
    result = train(frozen.model, frozen.start)
    joined = frozen.join(result.state.variables)
    assert jax.tree.structure(joined) == jax.tree.structure(variables)
    for layer, exact in (("Dense_0", True), ("Dense_1", False)):
        for name, found in joined.params[layer].items():
            if exact:  # mixing lets them drift, freezing does not
                np.testing.assert_array_equal(found, variables.params[layer][name])
            wanted = expected.params[layer][name]
            np.testing.assert_allclose(found, wanted, atol=1e-6)
            assert exact or not np.allclose(found, variables.params[layer][name])


def test_it_takes_no_place_per_slot_and_none_in_a_message():
    model, variables = whole()
    frozen = freeze(model, variables, is_first)
    result = train(frozen.model, frozen.start)
    for part in (result.state.store, frozen.start, result.state.variables):
        assert len(jax.tree.leaves(part)) == 2
    assert frozen.start.params["Dense_0"] == {"bias": None, "kernel": None}


def test_it_is_an_argument_and_no_constant_of_the_programs():
    """A program that holds a large constant compiles slowly, and holds a copy."""
    model, variables = whole()
    frozen = freeze(model, variables, is_first)
    worker = fa.make_local_update(
        frozen.model, CLIENTS, optax.sgd(0.3), batch_size=10, max_steps=4
    )
    held = [leaf.shape for leaf in jax.tree.leaves(worker)]
    assert variables.params["Dense_0"]["kernel"].shape in held
    # Another frozen part of the same shapes shares the programs.
    other = freeze(model, jax.tree.map(lambda a: a + 1, variables), is_first)
    again = fa.make_local_update(
        other.model, CLIENTS, optax.sgd(0.3), batch_size=10, max_steps=4
    )
    model_of = [jax.tree.structure(w).num_leaves for w in (worker, again)]
    assert model_of[0] == model_of[1]


def test_it_is_evaluated_and_saved_as_a_whole(tmp_path):
    model, variables = whole()
    frozen = freeze(model, variables, is_first)
    result = train(frozen.model, frozen.start)
    joined = frozen.join(result.state.variables)
    found = fa.make_evaluate(frozen.model, DATA, batch_size=50)(result.state.variables)
    expected = fa.make_evaluate(model, DATA, batch_size=50)(joined)
    assert found == expected and found["correct"] > 0.8
    fa.save_model(tmp_path, joined)
    jax.tree.map(np.testing.assert_array_equal, fa.load_model(tmp_path), joined)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_it_runs_beside_another_and_on_several_devices(num_devices):
    model, variables = whole()
    frozen = freeze(model, variables, is_first)
    devices = jax.devices()[:num_devices]
    batching = fa.engine.choose_batching(devices=devices)
    alone = train(frozen.model, frozen.start, batching=batching).state.variables
    worker = fa.make_local_update(
        frozen.model, CLIENTS, optax.sgd(0.3), batch_size=10, max_steps=4, rho=0.1
    )
    runs = [
        fa.Run(TRACE, worker, RULE, frozen.start, jax.random.key(s)) for s in (1, 2)
    ]
    beside, _ = fa.run_many(runs, batching=batching)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        beside.state.variables,
        alone,
    )


def test_init_draws_the_trained_part_anew():
    model, variables = whole()
    frozen = freeze(model, variables, is_first)
    drawn = frozen.model.init(jax.random.key(5))
    assert jax.tree.structure(drawn) == jax.tree.structure(frozen.start)
    expected = model.init(jax.random.key(5)).params["Dense_1"]["kernel"]
    np.testing.assert_array_equal(drawn.params["Dense_1"]["kernel"], expected)


def test_statistics_may_be_frozen():
    model = make_classifier("paper-cnn", (8, 8, 1), 2, channels=(2,), hidden=4)
    variables = model.init(jax.random.key(0))
    frozen = freeze(model, variables, lambda path: path.startswith("state/"))
    x = RNG.normal(size=(4, 8, 8, 1)).astype(np.float32)
    batch = {"x": x, "y": np.zeros(4, np.int32)}
    loss, state = frozen.model.loss(frozen.start, batch, jax.random.key(0))
    assert np.isfinite(loss) and not jax.tree.leaves(state)
    whole_loss, _ = model.loss(variables, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, whole_loss, rtol=1e-6)


def test_a_language_model_keeps_its_hidden_state():
    model = make_lstm_lm(11, embed=4, hidden=4, num_layers=1)
    variables = model.init(jax.random.key(0))
    frozen = freeze(model, variables, lambda path: "embedding" in path)
    assert frozen.model.start_task is model.start_task
    assert len(jax.tree.leaves(frozen.start)) < len(jax.tree.leaves(variables))


def test_freezing_everything_is_one_line():
    line = r"^is_frozen must leave a leaf of params to train, got True for all of 4$"
    with pytest.raises(ValueError, match=line):
        freeze(*whole(), lambda path: True)


def test_state_of_a_model_that_adds_to_it_cannot_be_frozen():
    model, variables = whole()
    model = model._replace(start_task=lambda state: state)
    variables = variables._replace(state={"mean": jnp.zeros(1)})
    line = r"^is_frozen must be False for all of the state of a model with start_task"
    with pytest.raises(ValueError, match=line):
        freeze(model, variables, lambda path: path == "state/mean")
