"""The Worker: its batches, its steps, its proximal term, and what it leaves alone."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from fedasync_jax.base import ClientData, Model, Variables
from fedasync_jax.data import Partition, make_client_data
from fedasync_jax.models import from_linen, make_model
from fedasync_jax.worker import add_proximal, make_local_update, steps_per_task

COUNTS = np.array([1, 3, 4, 7, 10], np.int32)
NUM_CLIENTS = len(COUNTS)


def make_data(counts=COUNTS):
    """Every sample is its own number; the rows of a client are scattered."""
    num_samples = int(counts.sum())
    rows = np.random.default_rng(0).permutation(num_samples).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
    return ClientData(jnp.arange(num_samples, dtype=float), rows, offsets, counts)


def samples_of(data, client):
    begin = data.offsets[client]
    return data.indices[begin : begin + data.counts[client]]


def loss_of(params, batch, key):
    """Least squares with noise, so that batches and keys both matter."""
    target = jnp.stack([jnp.mean(jnp.sin(batch)), jnp.mean(jnp.cos(batch))])
    noise = 0.1 * jax.random.normal(key, (2,))
    return 0.5 * jnp.sum((params["w"] - target - noise) ** 2)


def logging_loss(variables, batch, key):
    """``loss_of``, with the batches and keys of the last steps as the state."""
    log = {"batches": batch, "keys": jax.random.key_data(key)}
    state = jax.tree.map(
        lambda old, new: jnp.concatenate([old[1:], new[None]]), variables.state, log
    )
    return loss_of(variables.params, batch, key), state


def start_variables(max_steps, batch_size, w=(1.0, -2.0)):
    log = {
        "batches": jnp.full((max_steps, batch_size), jnp.nan),
        "keys": jnp.zeros((max_steps, 2), jnp.uint32),
    }
    return Variables({"w": jnp.array(w)}, log)


MODEL = Model(
    lambda key: start_variables(1, 1), logging_loss, lambda variables, batch: {}
)


def make_recorder(data, *, batch_size, num_steps, **settings):
    """Return ``record(client, seed) -> batches [H, B], keys [H]`` of one task."""
    settings = {"max_steps": num_steps, **settings}
    update = make_local_update(
        MODEL, data, optax.sgd(0.1), batch_size=batch_size, **settings
    )
    start = start_variables(num_steps, batch_size)
    task = jax.jit(lambda client, key: update(start, client, key, num_steps))

    def record(client, seed):
        trained, _ = task(jnp.int32(client), jax.random.key(seed))
        return np.asarray(trained.state["batches"]), np.asarray(trained.state["keys"])

    return record


# --- the proximal term ---


def change(optimizer, anchor, *calls) -> Any:
    """Return the last change that an optimizer makes, begun at ``anchor``."""
    state, changes = optimizer.init(anchor), None
    for grads, params in calls:
        changes, state = optimizer.update(grads, state, params)
    return changes


def test_the_anchor_of_the_proximal_term_is_what_init_was_given():
    proximal = add_proximal(0.5)
    anchor = {"w": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
    params = {"w": jnp.array([2.0, 0.0]), "b": jnp.array(3.0)}
    grads = {"w": jnp.array([10.0, 10.0]), "b": jnp.array(10.0)}
    other = jax.tree.map(lambda leaf: leaf + 7, params)
    for calls in ([(grads, params)], [(grads, other), (grads, params)]):
        changes = change(proximal, anchor, *calls)
        np.testing.assert_allclose(changes["w"], [10.5, 9.0])
        np.testing.assert_allclose(changes["b"], 10.0)


def test_the_proximal_term_is_the_gradient_of_half_rho_times_the_squared_norm():
    rho, anchor = 0.3, jnp.array([1.0, -1.0, 0.5])
    proximal = add_proximal(rho)

    def term(x):
        return rho / 2 * jnp.sum((x - anchor) ** 2)

    x = jnp.array([0.2, 4.0, -3.0])
    changes = change(proximal, anchor, (jnp.zeros(3), x))
    np.testing.assert_allclose(changes, jax.grad(term)(x), rtol=1e-6)
    check_grads(term, (x,), order=1, modes=["rev"], rtol=1e-2)


def test_the_proximal_term_composes_with_clipping_and_sgd():
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), add_proximal(2.0), optax.sgd(0.1)
    )
    step = jnp.array([3.0, 4.0]), jnp.array([1.0, 0.0])
    changes = change(optimizer, jnp.zeros(2), step)
    # Clipped to (0.6, 0.8), and the proximal term (2, 0) is not clipped.
    np.testing.assert_allclose(changes, [-0.26, -0.08], rtol=1e-6)


def test_without_rho_the_gradient_is_passed_on():
    proximal = add_proximal(0.0)
    grads = jnp.array([1.0, 2.0])
    changes = change(proximal, grads, (grads, 5 * grads))
    np.testing.assert_array_equal(changes, grads)


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
def test_a_bad_rho_is_named(rho):
    with pytest.raises(ValueError, match=rf"^rho must be finite and >= 0, got {rho}$"):
        add_proximal(rho)


def test_the_proximal_term_says_that_it_needs_the_parameters():
    proximal = add_proximal(0.1)
    state = proximal.init(jnp.ones(2))
    with pytest.raises(ValueError, match="needs params"):
        proximal.update(jnp.ones(2), state)


# --- the batches ---


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10])
def test_every_pass_has_every_sample_once(batch_size):
    data = make_data()
    record = make_recorder(data, batch_size=batch_size, num_steps=-(-35 // batch_size))
    for client, count in enumerate(COUNTS.tolist()):
        drawn = record(client, 1)[0].reshape(-1)
        own = sorted(samples_of(data, client))
        for begin in range(0, len(drawn), count):
            one_pass = sorted(drawn[begin : begin + count])
            if len(one_pass) == count:
                assert one_pass == own
            else:  # the last pass was cut off
                assert len(set(one_pass)) == len(one_pass)
                assert set(one_pass) <= set(own)


def test_passes_and_tasks_have_orders_of_their_own():
    record = make_recorder(make_data(), batch_size=5, num_steps=6)
    passes = [record(4, seed)[0].reshape(3, 10) for seed in range(3)]
    orders = {tuple(one_pass) for one_pass in np.concatenate(passes)}
    assert len(orders) == 9  # of 10! possible ones
    assert tuple(samples_of(make_data(), 4)) not in orders


@pytest.mark.parametrize("sampling", ["epochs", "replacement"])
def test_every_sample_is_equally_likely_at_every_place(sampling):
    data = make_data(np.array([2, 5, 3], np.int32))
    num_tasks, num_steps, batch_size = 4000, 4, 2
    update = make_local_update(
        MODEL,
        data,
        optax.sgd(0.1),
        batch_size=batch_size,
        max_steps=num_steps,
        sampling=sampling,
    )
    variables = start_variables(num_steps, batch_size)

    def batches_of(key):
        return update(variables, jnp.int32(1), key, num_steps)[0].state["batches"]

    keys = jax.random.split(jax.random.key(3), num_tasks)
    drawn = np.asarray(jax.jit(jax.vmap(batches_of))(keys)).reshape(num_tasks, -1)
    for place in drawn.T:
        samples, counts = np.unique(place, return_counts=True)
        assert sorted(samples) == sorted(samples_of(data, 1))
        # Five standard deviations of a binomial with p = 1/5.
        limit = 5 * np.sqrt(num_tasks * 0.2 * 0.8)
        assert np.abs(counts - num_tasks / 5).max() < limit


@pytest.mark.parametrize("wide", [False, True])
def test_replacement_draws_from_the_own_samples_only(wide):
    with jax.enable_x64(wide):
        data = make_data()
        record = make_recorder(data, batch_size=8, num_steps=20, sampling="replacement")
        for client, count in enumerate(COUNTS.tolist()):
            drawn = record(client, 5)[0].reshape(-1)
            assert set(drawn) == set(samples_of(data, client))
            # A pass has no sample twice; independent draws soon have.
            parts = drawn[: len(drawn) // count * count].reshape(-1, count)
            assert count == 1 or any(len(set(part)) < count for part in parts)


def test_the_keys_of_the_steps_and_of_the_tasks_differ():
    record = make_recorder(make_data(), batch_size=4, num_steps=6)
    keys = np.concatenate([record(3, seed)[1] for seed in range(3)])
    assert len(np.unique(keys, axis=0)) == 18


def test_a_local_update_can_be_called_as_it_is():
    update = make_local_update(
        MODEL, make_data(), optax.sgd(0.1), batch_size=2, max_steps=2
    )
    start, key = start_variables(2, 2), jax.random.key(0)
    plain, _ = update(start, jnp.int32(1), key, 2)
    compiled, _ = jax.jit(update, static_argnums=3)(start, jnp.int32(1), key, 2)
    np.testing.assert_array_equal(plain.state["batches"], compiled.state["batches"])
    np.testing.assert_allclose(plain.params["w"], compiled.params["w"], rtol=1e-6)


# --- the steps ---


def run_literally(optimizer, start, batches, keys) -> tuple[Any, np.floating]:
    """Algorithm 1's Worker as a Python loop over given batches."""
    params, state, losses = start, optimizer.init(start), []
    for batch, key in zip(batches, keys, strict=True):
        key = jax.random.wrap_key_data(jnp.asarray(key))
        losses.append(loss_of(params, jnp.asarray(batch), key))
        grads = jax.grad(loss_of)(params, jnp.asarray(batch), key)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, np.mean(losses)


OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.3),
    "momentum": lambda: optax.sgd(0.3, momentum=0.9),
    "adam": lambda: optax.adam(0.1),
    "proximal": lambda: optax.chain(
        optax.clip_by_global_norm(0.7), add_proximal(0.4), optax.sgd(0.3)
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_task_is_the_literal_loop_over_its_batches(name):
    data, optimizer = make_data(), OPTIMIZERS[name]()
    batch_size, num_steps = 4, 5
    update = make_local_update(
        MODEL, data, optimizer, batch_size=batch_size, max_steps=num_steps
    )
    update = jax.jit(update, static_argnums=3)
    # optax's adam wants the usual promotion.
    with jax.numpy_dtype_promotion("standard" if name == "adam" else "strict"):
        check_tasks(update, optimizer, data, num_steps, batch_size)


def check_tasks(update, optimizer, data, num_steps, batch_size):
    for client, seed, w in [(0, 0, (1.0, 2.0)), (3, 1, (0.3, -4.0))]:
        # The second task would show an optimizer state left over from the first.
        start = start_variables(num_steps, batch_size, w)
        trained, info = update(
            start, jnp.int32(client), jax.random.key(seed), num_steps
        )
        batches, keys = trained.state["batches"], trained.state["keys"]
        assert set(np.ravel(batches)) == set(samples_of(data, client))
        params, loss = run_literally(optimizer, start.params, batches, keys)
        np.testing.assert_allclose(trained.params["w"], params["w"], rtol=2e-6)
        np.testing.assert_allclose(info.loss, loss, rtol=1e-5)


def test_the_proximal_worker_is_algorithm_1_written_out():
    gamma, rho, num_steps = 0.3, 0.6, 4
    optimizer = optax.chain(add_proximal(rho), optax.sgd(gamma))
    update = make_local_update(
        MODEL, make_data(), optimizer, batch_size=3, max_steps=num_steps
    )
    start = start_variables(num_steps, 3)
    trained, _ = jax.jit(update, static_argnums=3)(
        start, jnp.int32(4), jax.random.key(8), num_steps
    )
    x_tau = x = start.params["w"]
    log = trained.state
    for batch, key in zip(log["batches"], log["keys"], strict=True):
        key = jax.random.wrap_key_data(key)
        x = x - gamma * (
            jax.grad(loss_of)({"w": x}, batch, key)["w"] + rho * (x - x_tau)
        )
    np.testing.assert_allclose(trained.params["w"], x, rtol=2e-6)


def make_task(optimizer, *, max_steps=4, **settings):
    """Return ``task(num_steps, seed) -> params, loss``, traced in both arguments."""
    update = make_local_update(
        MODEL, make_data(), optimizer, batch_size=3, max_steps=max_steps, **settings
    )

    def task(num_steps, seed=0):
        start = start_variables(max_steps, 3)
        trained, info = update(start, jnp.int32(3), jax.random.key(seed), num_steps)
        return trained.params["w"], info.loss, trained.state

    return task


@pytest.mark.parametrize("unroll", [False, True])
def test_h_may_be_a_number_or_traced_and_differ_from_task_to_task(unroll):
    optimizer = optax.chain(add_proximal(0.5), optax.sgd(0.2, momentum=0.5))
    rolled, task = make_task(optimizer), make_task(optimizer, unroll=unroll)
    steps = range(1, 5)
    expected = jax.jit(lambda: [rolled(num_steps) for num_steps in steps])()
    static = jax.jit(lambda: [task(num_steps) for num_steps in steps])()
    traced_task = jax.jit(task)
    traced = [traced_task(jnp.int32(num_steps)) for num_steps in steps]
    together = jax.jit(jax.vmap(task))(jnp.array(steps, jnp.int32))
    rows = [jax.tree.map(lambda leaf, i=i: leaf[i], together) for i in range(4)]
    for results in (static, traced, rows):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=2e-6), results, expected
        )
    assert len(np.unique(together[0], axis=0)) == 4


def test_one_step_does_not_depend_on_rho():
    steps = [
        make_task(optax.chain(add_proximal(rho), optax.sgd(0.3))) for rho in (0.0, 7.0)
    ]
    one, two = (
        jax.jit(lambda h=num_steps: [task(h)[0] for task in steps])()
        for num_steps in (1, 2)
    )
    np.testing.assert_array_equal(one[0], one[1])
    assert not np.allclose(two[0], two[1], rtol=1e-2)


def test_with_gamma_rho_one_a_step_starts_from_the_anchor():
    gamma, num_steps = 0.25, 4
    task = make_task(optax.chain(add_proximal(1 / gamma), optax.sgd(gamma)))
    x, _, log = task(num_steps)
    anchor = current = start_variables(1, 1).params["w"]
    for batch, key in zip(log["batches"], log["keys"], strict=True):
        key = jax.random.wrap_key_data(key)
        current = anchor - gamma * jax.grad(loss_of)({"w": current}, batch, key)["w"]
    np.testing.assert_allclose(x, current, rtol=2e-6)


# --- what is not trained ---


class Normalized(nn.Module):
    """A classifier with running statistics and dropout."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(3)(x)


def test_running_statistics_are_carried_and_not_trained():
    model = from_linen(Normalized(), jnp.zeros((1, 2)))
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(12, 2)).astype(np.float32), "y": np.arange(12) % 3}
    arrays = jax.tree.map(jnp.asarray, arrays | {"y": arrays["y"].astype(np.int32)})
    data = ClientData(
        arrays, np.arange(12, dtype=np.int32), np.zeros(1, np.int32), np.full(1, 12)
    )
    data = data._replace(counts=data.counts.astype(np.int32))
    # Weight decay, momentum and proximal term would all show on a running statistic.
    optimizer = optax.chain(
        add_proximal(3.0), optax.add_decayed_weights(0.1), optax.sgd(0.2, momentum=0.9)
    )
    update = make_local_update(model, data, optimizer, batch_size=12, max_steps=3)
    start = model.init(jax.random.key(0))
    key = jax.random.key(1)
    trained, _ = jax.jit(update, static_argnums=3)(start, jnp.int32(0), key, 3)

    # Full batches: the same samples in any order, but dropout sees the order.
    _, step_key = jax.random.split(key)
    variables, state = start, optimizer.init(start.params)
    numbered = data._replace(arrays=jnp.arange(12.0))
    orders, _ = make_recorder(numbered, batch_size=12, num_steps=3)(0, 1)
    for h, order in enumerate(orders.astype(int)):
        batch = jax.tree.map(lambda leaf, order=order: leaf[order], arrays)
        step = jax.random.fold_in(step_key, h)
        (_, stats), grads = jax.value_and_grad(
            lambda p, v=variables, b=batch, k=step: model.loss(
                Variables(p, v.state), b, k
            ),
            has_aux=True,
        )(variables.params)
        updates, state = optimizer.update(grads, state, variables.params)
        variables = Variables(optax.apply_updates(variables.params, updates), stats)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        trained,
        variables,
    )
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), trained.state, start.state)
    assert all(jax.tree.leaves(moved))


def test_the_loss_depends_on_the_key_of_the_task():
    task = make_task(optax.sgd(0.1))
    task = jax.jit(functools.partial(task, 2))
    first, other, again = (task(seed)[0] for seed in (0, 1, 0))
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(first, again)


# --- numbers and errors ---


def test_steps_per_task():
    counts = np.array([500, 18, 3, 51, 50])
    one = steps_per_task(counts, batch_size=50, epochs=1)
    assert one.tolist() == [10, 1, 1, 2, 1]
    assert one.dtype == np.int32
    half = steps_per_task(jnp.asarray(counts), batch_size=50, epochs=0.5)
    assert half.tolist() == [5, 1, 1, 1, 1]
    assert (
        steps_per_task(counts, batch_size=1, epochs=2).tolist() == (2 * counts).tolist()
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"epochs": 0}, "epochs must be finite and > 0, got 0"),
        ({"epochs": float("nan")}, "epochs must be finite and > 0, got nan"),
        ({"epochs": float("inf")}, "epochs must be finite and > 0, got inf"),
    ],
)
def test_steps_per_task_names_what_is_wrong(settings, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        steps_per_task(COUNTS, **{"batch_size": 1, "epochs": 1, **settings})


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"max_steps": 0}, "max_steps must be >= 1, got 0"),
        (
            {"sampling": "epoch"},
            "sampling must be 'epochs' or 'replacement', got 'epoch'",
        ),
    ],
)
def test_make_local_update_names_what_is_wrong(settings, line):
    settings = {"batch_size": 1, "max_steps": 1, **settings}
    with pytest.raises(ValueError, match=f"^{line}$"):
        make_local_update(MODEL, make_data(), optax.sgd(0.1), **settings)


# Randomness of the optimizer


def _drift(make_noise, num_tasks):
    """Return the model after tasks that only noise moves."""
    model = make_model(
        lambda key: {"w": jnp.zeros(3)},
        lambda params, batch, key: 0.0 * jnp.sum(params["w"]),
    )
    rows = Partition(np.arange(4), np.array([2, 2]))
    clients = make_client_data({"x": np.zeros((4, 1), np.float32)}, rows)
    optimizer = optax.chain(make_noise(), optax.sgd(0.1))
    worker = make_local_update(model, clients, optimizer, batch_size=1, max_steps=2)
    worker = jax.jit(worker, static_argnums=3)
    variables, moves = model.init(jax.random.key(0)), []
    for task in range(num_tasks):
        key = jax.random.fold_in(jax.random.key(1), task)
        with jax.numpy_dtype_promotion("standard"):  # optax's noise relies on it
            after, _ = worker(variables, jnp.int32(task % 2), key, 2)
        moves.append(np.asarray(after.params["w"] - variables.params["w"]))
        variables = after
    return np.stack(moves)


@pytest.mark.parametrize("key", [jax.random.key(7), 7])
def test_noise_of_an_optimizer_is_another_one_in_every_task(key):
    def make_noise():
        return optax.add_noise(1.0, 0.0, key)

    moves = _drift(make_noise, 200)
    assert len(np.unique(moves[:, 0])) == 200
    # Steps of standard deviation 0.1 sqrt(2): their sum grows as the square root.
    assert np.std(moves) == pytest.approx(0.1 * np.sqrt(2), rel=0.1)
    assert np.abs(moves.sum(axis=0)).max() < 4 * 0.1 * np.sqrt(2 * 200)
    np.testing.assert_array_equal(moves[:20], _drift(make_noise, 20))


def test_an_optimizer_without_random_keys_is_left_as_it_is():
    model = make_model(
        lambda key: {"w": jnp.zeros(3)},
        lambda params, batch, key: jnp.sum(params["w"]),
    )
    rows = Partition(np.arange(4), np.array([2, 2]))
    clients = make_client_data({"x": np.zeros((4, 1), np.float32)}, rows)
    worker = make_local_update(
        model, clients, optax.adam(0.1), batch_size=1, max_steps=2
    )
    start = model.init(jax.random.key(0))
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam relies on it
        found = [worker(start, jnp.int32(0), jax.random.key(k), 2)[0] for k in (1, 2)]
    np.testing.assert_array_equal(found[0].params["w"], found[1].params["w"])
