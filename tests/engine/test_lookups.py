"""Tables that are too short for a schedule are refused, before anything is compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedasync_jax as fa

MODEL = fa.models.make_model(
    lambda key: {"w": jnp.zeros(())},
    lambda params, batch, key: jnp.mean((batch["y"] - params["w"]) ** 2),
)
FEDASYNC = fa.mixing.fedasync(1.0, fa.staleness.constant())


def make_worker(num_clients, max_steps=1):
    """Every client's data are its own number: what was trained on can be read off."""
    numbers = np.arange(num_clients)
    rows = fa.data.Partition(numbers, np.ones(num_clients, int))
    clients = fa.data.make_client_data({"y": numbers.astype(np.float32)}, rows)
    return fa.make_local_update(
        MODEL, clients, optax.sgd(0.5), batch_size=1, max_steps=max_steps
    )


def make_trace(num_clients=6, num_updates=8, seed=0):
    rng = np.random.default_rng(seed)
    fleet = fa.make_fleet(num_clients, rng=rng)
    return fa.simulate(
        fleet, num_updates, scheduler=fa.Immediate(2), num_steps=1, rng=rng
    )


def start(trace, worker=None, mixer=FEDASYNC, many=False):
    worker = worker or make_worker(6)
    x_0, key = MODEL.init(jax.random.key(0)), jax.random.key(1)
    if many:
        run = fa.Run(trace, worker, mixer, x_0, key)
        return fa.run_many([run, run])[0]
    return fa.run(trace, worker, mixer, x_0, key)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"client": -1}, "trace.client must be >= 0, got -1 in row 3"),
        ({"num_steps": 0}, "trace.num_steps must be >= 1, got 0 in row 3"),
        ({"read_slot": 9}, "trace.read_slot must be in 0..1, got 9 in row 3"),
        ({"write_slot": 9}, "trace.write_slot must be in 0..2, got 9 in row 3"),
        ({"write_slot": -1}, "trace.write_slot must be in 0..2, got -1 in row 3"),
        (
            {"start_version": 4},
            "trace.start_version must be a version that exists before the arrival, got "
            "4 in row 3",
        ),
    ],
)
def test_a_trace_that_points_beyond_a_table(changes, line, many):
    trace = make_trace()
    for name, value in changes.items():
        column = getattr(trace, name).copy()
        column[3] = value
        trace = dataclasses.replace(trace, **{name: column})
    with pytest.raises(ValueError) as error:
        start(trace, many=many)
    assert str(error.value) == line


@pytest.mark.parametrize("many", [False, True])
def test_clients_without_data(many):
    with pytest.raises(ValueError) as error:
        start(make_trace(), make_worker(3), many=many)
    assert str(error.value) == (
        "clients of the schedule must be in 0..2, as many as have data (3), got 5"
    )


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize(
    ("mixer", "line"),
    [
        (
            fa.mixing.weighted(np.full(7, 0.5)),
            "weights must be one per update, 8 for this schedule, got 7",
        ),
        (
            fa.mixing.average_rounds(np.ones(3)),
            "client_weights must be one per client, 6 for this schedule, got 3",
        ),
        (
            fa.mixing.fedasync(
                lambda version: jnp.where(version < 5, 0.5, 5.0),
                fa.staleness.constant(),
            ),
            "alpha must be in (0, 1], got 5.0 at version 5",
        ),
    ],
)
def test_a_rule_whose_table_is_too_short(mixer, line, bounded):
    if bounded:
        mixer = fa.mixing.bound_update(mixer, 10.0)
    with pytest.raises(ValueError) as error:
        start(make_trace(), mixer=mixer)
    assert str(error.value) == line


def test_what_fits_runs():
    trace = make_trace()
    for mixer in (
        fa.mixing.weighted(np.full(8, 0.5)),
        fa.mixing.average_rounds(np.ones(6)),
        fa.mixing.bound_update(FEDASYNC, 10.0),
        fa.mixing.fedasync(lambda version: 0.5, fa.staleness.constant()),
    ):
        assert start(trace, mixer=mixer).state.version == 8


def test_a_local_update_of_ones_own_is_not_asked():
    def local_update(variables, client, key, num_steps):
        return variables, fa.base.LocalInfo(jnp.float32(0))

    assert start(make_trace(), local_update).state.version == 8
