"""Any optax optimizer: equal to a plain loop, or refused by name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedasync_jax as fa
from fedasync_jax.worker import add_proximal, make_local_update

NUM_STEPS = 4
SAMPLES = {
    "x": np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32),
    "y": np.arange(6, dtype=np.float32),
}
START = {"w": jnp.array([0.5, -1.0, 2.0]), "kept": jnp.ones(2)}


def loss_of(params: Any, batch, key=None):
    errors = batch["x"] @ params["w"] - batch["y"]
    return jnp.mean(errors**2) + 0.1 * jnp.sum(params["kept"] ** 2)


MODEL = fa.models.make_model(lambda key: START, loss_of)
CLIENTS = fa.data.make_client_data(
    SAMPLES, fa.data.Partition(np.arange(6), np.array([6]))
)
LABELS = {"w": "step", "kept": "keep"}


def train(optimizer, **settings) -> Any:
    """Return the parameters after a task whose batches are all samples."""
    worker = make_local_update(
        MODEL, CLIENTS, optimizer, batch_size=6, max_steps=NUM_STEPS, **settings
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        task = jax.jit(worker, static_argnums=3)
        trained, _ = task(
            fa.Variables(START), jnp.int32(0), jax.random.key(1), NUM_STEPS
        )
    return trained.params


def train_literally(optimizer, ask) -> Any:
    """The same steps, written out; ``ask`` says what ``update`` is given."""
    params: Any = START
    state = optimizer.init(START)

    def value_fn(params):
        return loss_of(params, SAMPLES)

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for _ in range(NUM_STEPS):
            value, grads = jax.value_and_grad(value_fn)(params)
            offered = {
                "value": value,
                "grad": grads,
                "value_fn": value_fn,
                "obj_fn": value_fn,
                "grad_fn": lambda params, i: jax.grad(value_fn)(params),
            }
            given = {name: offered[name] for name in ask}
            updates, state = optimizer.update(grads, state, params, **given)
            params = optax.apply_updates(params, updates)
    return params


def _make_sam(**settings):
    inner = optax.chain(optax.contrib.normalize(), optax.sgd(0.01))
    return optax.contrib.sam(optax.sgd(0.05), inner, **settings)


LOSS = ("value", "grad", "value_fn")
OPTIMIZERS: dict[str, Any] = {
    "reduce_on_plateau": (
        optax.chain(optax.sgd(0.05), optax.contrib.reduce_on_plateau(patience=1)),
        ("value",),
    ),
    "polyak_sgd": (optax.polyak_sgd(), ("value",)),
    "momo": (optax.contrib.momo(), ("value",)),
    "lbfgs": (
        optax.lbfgs(
            memory_size=2, linesearch=optax.scale_by_backtracking_linesearch(3)
        ),
        LOSS,
    ),
    "backtracking": (
        optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)),
        LOSS,
    ),
    "sam": (_make_sam(), ()),
    "opaque sam": (_make_sam(opaque_mode=True), ("grad_fn",)),
    "MultiSteps": (optax.MultiSteps(optax.sgd(0.05), 2), ()),
    "MultiSteps of polyak_sgd": (optax.MultiSteps(optax.polyak_sgd(), 2), ("value",)),
    "schedule_free": (optax.contrib.schedule_free_sgd(0.05), ()),
    "multi_transform": (
        optax.multi_transform(
            {"step": optax.sgd(0.05), "keep": optax.set_to_zero()}, LABELS
        ),
        (),
    ),
    "masked": (optax.masked(optax.polyak_sgd(), {"w": True, "kept": True}), ("value",)),
    "adam": (optax.adam(0.05), ()),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_steps_of_a_plain_loop(name):
    optimizer, ask = OPTIMIZERS[name]
    found, expected = train(optimizer), train_literally(optimizer, ask)
    assert not np.allclose(found["w"], START["w"])
    for leaf in START:
        np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "line"),
    [
        (None, "optimizer must be an optax transformation .* got None"),
        ("sgd", "optimizer must be an optax transformation .* got 'sgd'"),
        (
            lambda params: optax.sgd(0.05),
            "numbers must be set if optimizer is a function of them, got None",
        ),
    ],
)
def test_what_is_no_optimizer_is_refused(optimizer, line):
    with pytest.raises(ValueError, match=f"^{line}") as caught:
        train(optimizer)
    assert "\n" not in str(caught.value)


def test_a_function_of_numbers_must_return_an_optimizer():
    with pytest.raises(ValueError, match=r"must return an optax transformation, got 3"):
        train(lambda numbers: 3, numbers=np.ones(1))


@pytest.mark.parametrize("same_size", [False, True])
def test_an_optimizer_of_per_example_gradients_is_refused(monkeypatch, same_size):
    # With leaves of one leading size, the first axis would pass for the examples.
    kept = jnp.ones(3 if same_size else 2)
    monkeypatch.setitem(START, "kept", kept)
    private = optax.contrib.differentially_private_aggregate(
        1.0, 0.0, key=jax.random.key(0)
    )
    with pytest.raises(ValueError, match="such as dpsgd, cannot be used"):
        train(optax.chain(private, optax.sgd(0.05)))


def test_errors_of_an_optimizer_are_its_own():
    def fail(updates, state, params=None):
        raise ValueError("no, thank you")

    with pytest.raises(ValueError, match=r"^no, thank you"):
        train(optax.GradientTransformation(lambda params: (), fail))


# The proximal term


@pytest.mark.parametrize("optimizer", [optax.sgd(0.1, momentum=0.5), optax.adam(0.1)])
def test_rho_is_the_chain_with_the_term_first_bit_for_bit(optimizer):
    found = train(optimizer, rho=0.7)
    expected = train(optax.chain(add_proximal(0.7), optimizer))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert not np.array_equal(found["w"], train(optimizer)["w"])


def test_a_line_search_sees_the_proximal_term():
    rho = 3.0
    optimizer = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5))

    def g(params):
        away = jax.tree.map(jnp.subtract, params, START)
        squares = sum(jnp.sum(leaf**2) for leaf in away.values())
        return loss_of(params, SAMPLES) + rho / 2 * squares

    params: Any = START
    state = optimizer.init(START)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for _ in range(NUM_STEPS):
            value, grads = jax.value_and_grad(g)(params)
            updates, state = optimizer.update(
                grads, state, params, value=value, grad=grads, value_fn=g
            )
            params = optax.apply_updates(params, updates)
    found = train(optimizer, rho=rho)
    np.testing.assert_allclose(found["w"], params["w"], rtol=1e-4)


@pytest.mark.parametrize("rho", [-1.0, float("nan"), float("inf")])
def test_a_bad_rho_is_refused(rho):
    with pytest.raises(ValueError, match=r"^rho must be finite and >= 0, got"):
        train(optax.sgd(0.1), rho=rho)


@pytest.mark.parametrize(
    "wrong",
    [
        optax.chain(optax.sgd(0.1), add_proximal(0.5)),
        optax.chain(optax.adam(0.1), optax.chain(add_proximal(0.5))),
        optax.chain(optax.clip(1.0), optax.sgd(0.1, momentum=0.9), add_proximal(2.0)),
    ],
)
def test_the_proximal_term_behind_the_step_size_is_refused(wrong):
    with pytest.raises(ValueError, match="add_proximal must stand before") as caught:
        train(wrong)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    "right",
    [
        optax.chain(add_proximal(0.5), optax.adam(0.1)),
        optax.chain(optax.clip(1.0), add_proximal(0.5), optax.sgd(0.1)),
        optax.chain(add_proximal(0.5), optax.add_noise(1.0, 0.0, 3), optax.sgd(0.1)),
    ],
)
def test_the_proximal_term_before_the_step_size_is_right(right):
    assert np.all(np.isfinite(train(right)["w"]))
