"""FedAsync's mixing rule, and the mistakes of others as tests that must differ."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedasync_jax as fa
from fedasync_jax.mixing import fedasync
from fedasync_jax.mixing.staleness import (
    constant,
    exponential,
    hinge,
    linear,
    polynomial,
)
from fedasync_jax.schedule.trace import make_trace

_REPEATABLE = settings(deadline=None, derandomize=True)


def _mix(mixer, local, current, *, staleness=0, version=0):
    return mixer.update(
        local,
        mixer.init(current),
        current,
        start=current,
        staleness=jnp.int32(staleness),
        version=jnp.int32(version),
        client=jnp.int32(0),
    )


# A bound on any rule


@pytest.mark.parametrize(
    ("step", "applied"),
    [(2.9, True), (3.0, True), (3.1, False), (np.nan, False), (1e30, False)],
)
def test_an_update_beyond_the_bound_changes_nothing(step, applied):
    """The distance is from the model that was received, over all leaves."""
    rule = fa.mixing.bound_update(fa.mixing.average_rounds(), 5.0)
    start = {"a": jnp.zeros(2), "b": jnp.ones(())}
    local = {"a": jnp.array([4.0, 0.0]), "b": jnp.float32(1 + step)}  # 3, 4, 5
    current = jax.tree.map(lambda leaf: leaf + 100, start)
    state = rule.init(current)
    mixed, next_state, info = jax.jit(rule.update)(
        local,
        state,
        current,
        start=start,
        staleness=jnp.int32(0),
        version=jnp.int32(0),
        client=jnp.int32(0),
    )
    assert bool(info.applied) == applied
    expected = (local, 1.0) if applied else (current, 0.0)
    jax.tree.map(np.testing.assert_array_equal, mixed, expected[0])
    assert float(next_state.weight) == expected[1]


def test_a_bound_must_be_positive():
    rule = fedasync(0.5, constant())
    for bound in (0, -1, np.nan):
        with pytest.raises(ValueError, match="max_norm must be > 0, got "):
            fa.mixing.bound_update(rule, bound)


# The rule alone


@_REPEATABLE
@given(st.floats(0.01, 1), st.integers(0, 50))
def test_weight_is_alpha_times_s(alpha, staleness):
    functions = {
        constant(): 1,
        polynomial(0.5): (staleness + 1) ** -0.5,
        hinge(10, 4): 1 / (10 * max(staleness - 4, 0) + 1),
        exponential(0.3): np.exp(-0.3 * staleness),
        linear(2): 1 / (2 * staleness + 1),
    }
    for staleness_fn, weight in functions.items():
        rule = fedasync(alpha, staleness_fn)
        mixed, state, info = _mix(
            rule, jnp.float32(3), jnp.float32(1), staleness=staleness
        )
        assert float(info.alpha) == pytest.approx(alpha * weight, rel=1e-5)
        assert float(mixed) == pytest.approx(1 + 2 * alpha * weight, rel=1e-5)
        assert bool(info.applied)
        assert state == ()


def _check_halved_at_800(rule):
    for version, alpha in {0: 0.6, 799: 0.6, 800: 0.3, 801: 0.3, 1999: 0.3}.items():
        for staleness, s in {0: 1, 3: 0.5}.items():
            _, _, info = _mix(
                rule, jnp.ones(2), jnp.zeros(2), staleness=staleness, version=version
            )
            assert float(info.alpha) == pytest.approx(alpha * s)


def test_alpha_may_be_a_schedule_of_the_version():
    def schedule(version):
        return jnp.where(version < 800, 0.6, 0.3)

    _check_halved_at_800(fedasync(schedule, polynomial(0.5)))


def test_alpha_may_be_an_optax_schedule():
    schedule = optax.piecewise_constant_schedule(0.6, {800: 0.5})
    with jax.numpy_dtype_promotion("standard"):  # optax's own code needs it
        _check_halved_at_800(fedasync(schedule, polynomial(0.5)))


def test_alpha_schedule_counts_updates_from_zero():
    """The update that is made from version t gets alpha(t)."""
    result = fa.run(
        _make_trace([0, 0, 1, 3]),
        _halve_the_gap,
        fedasync(lambda version: jnp.where(version < 2, 0.5, 0.25), constant()),
        _zero(),
        jax.random.key(0),
    )
    np.testing.assert_allclose(result.updates.alpha, [0.5, 0.5, 0.25, 0.25])


def test_alpha_one_without_staleness_returns_the_local_model_exactly():
    rng = np.random.default_rng(0)
    current, local = (
        {"w": jnp.asarray(rng.normal(size=99) * 10.0**scale, jnp.float32)}
        for scale in (20, -20)
    )
    for staleness_fn in (constant(), polynomial(0.5), hinge(10, 4), linear(3)):
        mixed, _, _ = _mix(fedasync(1.0, staleness_fn), local, current)
        np.testing.assert_array_equal(mixed["w"], local["w"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_leaves_keep_their_dtype(dtype):
    current = {"w": jnp.zeros(3, dtype), "scale": jnp.ones((), jnp.float32)}
    local = jax.tree.map(lambda leaf: leaf + 1, current)
    mixed, _, _ = _mix(fedasync(0.5, constant()), local, current)
    assert mixed["w"].dtype == dtype
    assert mixed["scale"].dtype == jnp.float32
    np.testing.assert_array_equal(mixed["w"].astype(jnp.float32), [0.5] * 3)


def test_state_of_the_model_is_mixed_too():
    """Running statistics are part of what is sent, returned and mixed."""
    current = fa.Variables({"w": jnp.zeros(2)}, {"mean": jnp.zeros(1)})
    local = fa.Variables({"w": jnp.ones(2)}, {"mean": jnp.ones(1)})
    mixed, _, _ = _mix(fedasync(0.25, constant()), local, current)
    assert float(mixed.state["mean"][0]) == 0.25


@pytest.mark.parametrize("alpha", [0, -0.1, 1.001, np.nan, np.inf])
def test_alpha_out_of_range_is_one_line(alpha):
    with pytest.raises(ValueError) as error:
        fedasync(alpha, constant())
    assert str(error.value) == f"alpha must be in (0, 1], got {alpha}"


# A tiny run by hand: f(x) = (x - 8)^2 / 2, one local step of size 1/2, x_0 = 0.
#
#   row  tau  d  alpha_t  x_new  x
#    0    0   0    0.8     4     3.2
#    1    0   1    0.4     4     0.6 * 3.2  + 0.4 * 4   = 3.52
#    2    1   1    0.4     5.6   0.6 * 3.52 + 0.4 * 5.6 = 4.352

_STARTS = [0, 0, 1]
_BY_HAND = [3.2, 3.52, 4.352]


def _zero() -> fa.Variables:
    return fa.Variables(jnp.zeros(()))


def _make_trace(starts) -> fa.schedule.Trace:
    rows = np.arange(len(starts))
    last_reader = np.full(len(starts) + 1, -1)
    last_reader[starts] = rows
    return make_trace(
        client=0 * rows,
        task=rows,
        start_version=np.array(starts),
        start_time=np.array(starts),
        arrival_time=rows + 1,
        num_steps=0 * rows + 2,
        last_reader=last_reader,
    )


def _halve_the_gap(variables, client, key, num_steps):
    x = variables.params
    return fa.Variables(x - 0.5 * (x - 8)), fa.base.LocalInfo(loss=jnp.zeros(()))


def _serially(alphas, starts) -> list[float]:
    """The same run as a plain loop, with weights and start versions as given."""
    models = [0.0]
    for alpha, tau in zip(alphas, starts, strict=True):
        local = (models[tau] + 8) / 2
        models.append((1 - alpha) * models[-1] + alpha * local)
    return models[1:]


def _run_by_engine(mixer, starts) -> tuple[list[float], np.ndarray]:
    result = fa.run(
        _make_trace(starts),
        _halve_the_gap,
        mixer,
        _zero(),
        jax.random.key(0),
        evaluate_fn=lambda variables: {"x": variables.params},
        eval_every=1,
    )
    models = [float(evaluation.metrics["x"]) for evaluation in result.evaluations]
    return models[1:], np.asarray(result.updates.alpha)


def test_run_by_hand():
    models, alphas = _run_by_engine(fedasync(0.8, linear(1)), _STARTS)
    np.testing.assert_allclose(alphas, [0.8, 0.4, 0.4], rtol=1e-6)
    np.testing.assert_allclose(models, _BY_HAND, rtol=1e-6)
    np.testing.assert_allclose(_serially([0.8, 0.4, 0.4], _STARTS), _BY_HAND)


@pytest.mark.parametrize(
    ("alphas", "starts"),
    [
        pytest.param([0.08, 0.04, 0.04], _STARTS, id="APPFL: over 10 clients"),
        pytest.param([0.8, 0.4, 0.2], _STARTS, id="Plato: alpha compounds"),
        pytest.param([0.8, 0.4, 0.4], [0, 1, 2], id="trained from the current model"),
        pytest.param([0.4, 0.8 / 3, 0.8 / 3], _STARTS, id="staleness counted from 1"),
        pytest.param([0.8, 0.8, 0.8], _STARTS, id="staleness ignored"),
    ],
)
def test_run_is_not_one_of_the_wrong_runs(alphas, starts):
    models, _ = _run_by_engine(fedasync(0.8, linear(1)), _STARTS)
    assert abs(models[-1] - _serially(alphas, starts)[-1]) > 0.05


def test_alpha_does_not_compound_over_many_updates():
    starts = [max(0, t - 1) for t in range(40)]
    _, alphas = _run_by_engine(fedasync(0.8, linear(1)), starts)
    np.testing.assert_allclose(alphas[1:], 0.4, rtol=1e-6)


@pytest.mark.parametrize("num_clients", [1, 100])
def test_alpha_does_not_depend_on_the_number_of_clients(num_clients):
    trace = fa.sampled_staleness(
        num_clients, 30, max_staleness=4, rng=np.random.default_rng(0)
    )
    rule = fedasync(0.8, linear(1))
    result = fa.run(trace, _halve_the_gap, rule, _zero(), jax.random.key(0))
    expected = 0.8 / (trace.staleness + 1)
    np.testing.assert_allclose(result.updates.alpha, expected, rtol=1e-6)


# The proximal term: rho = 1, two local steps of size 1/2 on f(x) = (x - 8)^2 / 2.


def _proximal_update():
    model = fa.Model(
        init=lambda key: _zero(),
        loss=lambda variables, batch, key: (
            jnp.mean((variables.params - batch) ** 2) / 2,
            (),
        ),
        metrics=lambda variables, batch: {},
    )
    rows = np.zeros(1, np.int32)
    data = fa.base.ClientData(np.full(1, 8, np.float32), rows, rows, rows + 1)
    optimizer = optax.chain(fa.add_proximal(1.0), optax.sgd(0.5))
    return fa.make_local_update(model, data, optimizer, batch_size=1, max_steps=2)


def _two_steps(pull, x=0.0) -> float:
    """Two plain steps with a proximal gradient ``pull(x)``."""
    for _ in range(2):
        x -= 0.5 * ((x - 8) + pull(x))
    return x


def test_proximal_term_is_squared():
    """x: 0 -> 4 -> 4 - (-4 + 4) / 2 = 4; un-squared its pull would be a sign only."""
    result = fa.run(
        _make_trace([0]),
        _proximal_update(),
        fedasync(1.0, constant()),
        _zero(),
        jax.random.key(0),
    )
    assert float(result.state.variables.params) == 4
    assert _two_steps(lambda x: x) == 4
    assert _two_steps(lambda x: np.sign(x)) == 5.5  # rho |x - x_tau|
    assert _two_steps(lambda x: np.sign(x) / 2) == 5.75  # rho/2 |x - x_tau|
    assert _two_steps(lambda x: 2 * x) == 2  # rho |x - x_tau|^2


def test_proximal_anchor_is_the_model_received_not_the_current_one():
    """Both tasks start from x_0 = 0 and return 4; anchored at x_1 = 4 it were 6."""
    result = fa.run(
        _make_trace([0, 0]),
        _proximal_update(),
        fedasync(1.0, constant()),
        _zero(),
        jax.random.key(0),
    )
    assert float(result.state.variables.params) == 4
    assert _two_steps(lambda x: x - 4) == 6
