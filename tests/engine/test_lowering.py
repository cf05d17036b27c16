"""Waves of every rule and model can be lowered for back ends that are not at hand."""

import jax
import numpy as np
import optax
import pytest
from tabled import tabled

import fedasync_jax as fa
from fedasync_jax.engine.calls import make_columns, make_queue
from fedasync_jax.engine.coordinates import find_layout
from fedasync_jax.engine.plan import Inputs, Plan, as_pytree
from fedasync_jax.engine.state import Models, init_state
from fedasync_jax.engine.wave import compile_calls
from fedasync_jax.mixing.rules import RULES
from fedasync_jax.schedule.trace import make_waves

CLIENTS, UPDATES, WIDTH = 3, 8, 4
TRACE = fa.sampled_staleness(
    CLIENTS, UPDATES, max_staleness=4, rng=np.random.default_rng(0)
)
KEY = jax.random.key(0)
PLATFORMS = ["cuda", "tpu"]


def make_rule(name):
    rule = RULES.make(
        name,
        {f"{name}_size": 4},
        alpha=0.6,
        staleness_fn=fa.staleness.polynomial(0.5),
        num_clients=CLIENTS,
    )
    return tabled(rule, TRACE)


def lower(model, arrays, rule, batch_size=2):
    """Lower a call of a wave and return its text."""
    part = fa.data.iid(len(arrays["y"]), CLIENTS, rng=np.random.default_rng(0))
    worker = fa.make_local_update(
        model,
        fa.data.make_client_data(arrays, part),
        optax.sgd(0.1),
        batch_size=batch_size,
        max_steps=2,
    )
    batching = fa.Batching(max_width=WIDTH, product=True)
    waves = list(make_waves(TRACE.start_version, WIDTH))
    queue = make_queue(make_columns(TRACE, rule), waves)
    state = init_state(TRACE, rule, model.init(KEY))
    inputs = Inputs(KEY, queue, as_pytree(worker), as_pytree(rule.update))
    plan = Plan(
        jax.tree.structure(inputs.local_update),
        jax.tree.structure(inputs.mix),
        2,
        batching,
        layout=find_layout(rule),
    )

    def call(models, inputs):
        span = np.array([0, UPDATES], np.int32)
        return compile_calls(plan)(models, inputs, span, width=WIDTH, num_rows=16)

    exported = jax.export.export(jax.jit(call), platforms=PLATFORMS)
    return exported(Models(*state[1:]), inputs).mlir_module()


def make_images():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 8, 8, 3)).astype(np.float32)
    return {"x": x, "y": rng.integers(4, size=12).astype(np.int32)}


@pytest.mark.parametrize("averaged", [False, True], ids=["alone", "averaged"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule(name, averaged):
    model = fa.models.make_classifier("mlp", (8, 8, 3), 4, hidden=(4,))
    rule = make_rule(name)
    rule = fa.mixing.averaged(rule) if averaged else rule
    text = lower(model, make_images(), rule)
    assert ("triangular_solve" in text) == (find_layout(rule) is not None)


@pytest.mark.parametrize("convolution", fa.models.CONVOLUTIONS)
@pytest.mark.parametrize("name", ["cnn", "paper-cnn"])
def test_every_network_for_images(name, convolution):
    chosen = fa.models.choose_convolution(convolution, "gpu")
    model = fa.models.make_classifier(
        name, (8, 8, 3), 4, conv_general_dilated=chosen.fn
    )
    assert lower(model, make_images(), make_rule("fedasync"))


def test_the_language_model():
    model = fa.models.make_lstm_lm(
        11, embed=4, hidden=4, num_layers=1, dropout=0.2, batch_size=2
    )
    tokens = np.zeros((12, 5, 2), np.int32)
    arrays = {"x": tokens, "y": tokens}
    assert lower(model, arrays, make_rule("fedasync"), batch_size=1)
