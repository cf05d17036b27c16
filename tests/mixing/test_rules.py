"""Every rule: a value by hand, equality with another in a special case, its bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedasync_jax as fa
from fedasync_jax import mixing
from fedasync_jax.base import Arrivals
from fedasync_jax.mixing.by_weight import mean_so_far
from fedasync_jax.schedule.trace import make_trace

LINEAR = fa.staleness.linear(1)  # s(d) = 1 / (d + 1)


def mix(rule, steps, x0=0.0):
    """Return the models and alphas of arrivals (start, local, staleness, client)."""
    state, x = rule.init(jnp.float32(x0)), jnp.float32(x0)
    models, alphas = [], []
    for version, (start, local, staleness, client) in enumerate(steps):
        x, state, info = rule.update(
            jnp.float32(local),
            state,
            x,
            start=jnp.float32(start),
            staleness=jnp.int32(staleness),
            version=jnp.int32(version),
            client=jnp.int32(client),
        )
        models.append(float(x))
        alphas.append(float(info.alpha))
    return models, alphas


# The same arrivals for all: changes 4, 2, -2 of starts 0, 0, 1.
STEPS = [(0, 4, 0, 0), (0, 2, 1, 1), (1, -1, 1, 0)]


def test_delta_adds_the_weighted_change():
    models, alphas = mix(mixing.delta(0.5, LINEAR), STEPS)
    assert models == [2, 2.5, 2] and alphas == [0.5, 0.25, 0.25]


def test_fedbuff_adds_the_mean_of_a_full_buffer():
    """With K = 2: (4 + 2 / 2) / 2, and of the next two -2 / 2 / 2 and 6 / 2."""
    rule = mixing.fedbuff(2, 1.0, LINEAR)
    models, alphas = mix(rule, [*STEPS, (0, 6, 0, 1)])
    assert models == [0, 2.5, 2.5, 5.0] and alphas == [0.5, 0.25, 0.25, 0.5]


def test_a_trimmed_buffer_leaves_out_the_ends_of_every_entry():
    """Of 1, 2, 3, 900 and -700 the middle three have the mean 2."""
    one = fa.staleness.constant()
    rule = mixing.trimmed(5, 0.2, 0.5, one)
    steps = [(0, change, 0, 0) for change in (3, 900, 1, -700, 2)]
    models, _ = mix(rule, [*steps, (1, 5, 0, 0)])
    assert models == [0, 0, 0, 0, 1, 1]
    # Each entry has ends of its own: 900 is the first of one model, the second of one.
    x, state = jnp.zeros(2), rule.init(jnp.zeros(2))
    for local in ([900, 1], [1, 900], [2, 2], [3, 3], [-700, -700]):
        x, state, _ = rule.update(
            jnp.array(local, float),
            state,
            x,
            start=jnp.zeros(2),
            staleness=jnp.int32(0),
            version=jnp.int32(0),
            client=jnp.int32(0),
        )
    np.testing.assert_allclose(x, [1, 1])


def test_delay_adaptive_punishes_what_is_later_than_usual():
    steps = [(0, 1, d, 0) for d in (0, 1, 2, 4)]
    assert mix(mixing.delay_adaptive(1.0, 2.0), steps)[1] == [1, 1, 1, 0.5]
    # Means so far: 0, 1/2, 1, 7/4.
    by_mean = mix(mixing.delay_adaptive(1.0), steps)[1]
    np.testing.assert_allclose(by_mean, [1, 1 / 2, 1 / 2, 7 / 16], rtol=1e-6)


def test_cutoff_drops_what_is_too_stale():
    steps = [(0, 4, 0, 0), (0, 4, 1, 0), (0, 4, 2, 0)]
    models, alphas = mix(mixing.cutoff(0.5, 2), steps)
    assert models == [2, 4, 4] and alphas == [0.5, 0.5, 0]


def test_asyncfeded_divides_by_the_distance():
    """gamma = 0 / 4, then 2 / 2: weights 1 / 2 and 1 / 3; no change weighs nothing."""
    models, alphas = mix(mixing.asyncfeded(1.0, 2.0), [*STEPS[:2], (0, 0, 2, 0)])
    np.testing.assert_allclose(alphas, [1 / 2, 1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(models, [2, 2 + 2 / 3, 2 + 2 / 3], rtol=1e-6)
    assert mix(mixing.asyncfeded(), [(0, 0, 0, 0)]) == ([0.0], [0.0])


def test_server_momentum_by_hand():
    """Velocity 4, then 0.5 x 4 + 2, with steps of 0.1."""
    one = fa.staleness.constant()
    rule = mixing.server_optimizer("momentum", 0.1, 0.5, staleness_fn=one)
    np.testing.assert_allclose(mix(rule, STEPS[:2])[0], [0.4, 0.8], rtol=1e-6)


def test_a_server_takes_any_optimizer():
    named = mixing.server_optimizer("adam", 0.1, 0.9, 1e-3, size=2)
    handed = mixing.server(optax.adam(0.1, b1=0.9, eps=1e-3), size=2)
    steps = [*STEPS, (0, 6, 0, 1)]
    np.testing.assert_allclose(mix(named, steps)[0], mix(handed, steps)[0], rtol=1e-6)
    # SGD with step eta is FedBuff with the server step eta.
    sgd = mixing.server(optax.sgd(0.7), size=2)
    np.testing.assert_allclose(
        mix(sgd, steps)[0], mix(mixing.fedbuff(2, 0.7), steps)[0], rtol=1e-6
    )


def test_a_server_optimizer_sees_the_parameters_only():
    rule = mixing.server(optax.sgd(10.0), staleness_fn=fa.staleness.constant())
    zero, one = (fa.Variables(jnp.full(2, v), {"mean": jnp.float32(v)}) for v in (0, 1))
    where = {"start": zero, "staleness": jnp.int32(0), "client": jnp.int32(0)}
    mixed, *_ = rule.update(one, rule.init(zero), zero, version=jnp.int32(0), **where)
    np.testing.assert_array_equal(mixed.params, [10, 10])
    assert float(mixed.state["mean"]) == 1


def test_fadas_by_hand():
    """m = 0.1 x 3, v = 0.5 x 9; the step is halved as d_max = 2 and d_c = 1."""
    rule = mixing.fadas(2, step=0.2, usual=1.0, b1=0.9, b2=0.5, eps=1.0)
    models, _ = mix(rule, [(0, 4, 2, 0), (0, 2, 1, 1)])
    expected = 0.1 * 0.3 / (np.sqrt(4.5) + 1)
    np.testing.assert_allclose(models, [0, expected], rtol=1e-6)


def test_ca2fl_adds_what_the_others_last_did():
    """Two clients, K = 1: v = 4; then h = 2: 2 + 2; then h = 3: 3 + (-2 - 4)."""
    models, _ = mix(mixing.ca2fl(2, 1, 1.0), STEPS)
    np.testing.assert_allclose(models, [4, 8, 5], rtol=1e-6)


def test_area_holds_the_mean_of_what_the_clients_last_said():
    models, _ = mix(mixing.area(2, 1), STEPS)
    np.testing.assert_allclose(models, [4 / 2, (4 + 2) / 2, (-1 + 2) / 2], rtol=1e-6)


def test_tethered_by_hand():
    """Second arrival: x = 2, r = 2 / 2; third: x = 3, x - x_tau = 3, r = 1 / 3."""
    rule = mixing.tethered(0.5, 6.0)
    models, alphas = mix(rule, [*STEPS[:2], (0, 1, 20, 0)])
    base = min(0.5, 6 / (1 + 7))
    np.testing.assert_allclose(alphas, [0.5, 0.5, base / 3], rtol=1e-6)
    tied = 1 - (1 - 1 / 3) * 3
    np.testing.assert_allclose(models, [2, 3, 3 + base / 3 * tied], rtol=1e-6)


def test_tethered_without_staleness_is_fedasync():
    steps = [(0.0, 4, 0, 0), (2.0, 1, 0, 1), (1.5, 9, 0, 2)]
    pull = mixing.fedasync(0.5, fa.staleness.constant())
    assert mix(mixing.tethered(0.5), steps) == mix(pull, steps)


def _on_quadratic(rule, delay, *, solved=1.0, num_updates=400):
    """Return |x_T| on f(x) = x^2 / 2 with equal delays; tasks return -p x_tau."""
    jitted, state = jax.jit(rule.update), rule.init(jnp.float32(1))
    models = [jnp.float32(1)]
    for t in range(num_updates):
        start = models[max(0, t - delay)]
        x, state, _ = jitted(
            (1 - jnp.float32(solved)) * start,
            state,
            models[-1],
            start=start,
            staleness=jnp.int32(min(t, delay)),
            version=jnp.int32(t),
            client=jnp.int32(0),
        )
        models.append(x)
    return abs(float(models[-1]))


def test_only_the_guard_keeps_the_tethered_rule_stable():
    assert _on_quadratic(mixing.tethered(reach=6.0, guard=0.0), 9) > 1e3
    for delay in (0, 5, 9):
        assert _on_quadratic(mixing.tethered(), delay) < 0.1


def test_the_largest_stable_step_of_delta_is_that_of_the_oracle():
    delay = 9
    edge = 2 * np.sin(np.pi / (2 * (2 * delay + 1)))
    assert _on_quadratic(mixing.delta(0.9 * edge), delay) < 1
    assert _on_quadratic(mixing.delta(1.1 * edge), delay) > 1


# Averages


def test_the_average_is_judged_and_never_trained_from():
    inner, rule = mixing.delta(0.5), mixing.averaged(mixing.delta(0.5), 2.0)
    assert mix(rule, STEPS)[0] == mix(inner, STEPS)[0] == [2, 3, 2]
    trace = make_trace(
        client=np.zeros(3, int),
        task=np.arange(3),
        start_version=np.arange(3),
        start_time=np.arange(3),
        arrival_time=np.arange(3) + 1,
        num_steps=np.ones(3, int),
        last_reader=np.array([0, 1, 2, -1]),
    )

    def add_one(variables, client, key, num_steps):
        return fa.Variables(variables.params + 1), fa.base.LocalInfo(jnp.zeros(()))

    result = fa.run(
        trace,
        add_one,
        mixing.averaged(mixing.delta(1.0), 2.0),
        fa.Variables(jnp.zeros(())),
        jax.random.key(0),
        evaluate_fn=lambda variables: {"x": variables.params},
        eval_every=1,
    )
    # x: 1, 2, 3; weights 2 / 2, 2 / 3, 2 / 4.
    seen = [float(evaluation.metrics["x"]) for evaluation in result.evaluations]
    np.testing.assert_allclose(seen, [0, 1, 5 / 3, 7 / 3], rtol=1e-6)
    assert float(result.state.variables.params) == 3


def test_an_average_with_decay_1_is_the_mean():
    rule = mixing.averaged(mixing.delta(0.5), 1.0)
    state, x = rule.init(jnp.float32(0)), jnp.float32(0)
    seen = []
    for version in range(5):
        x, state, _ = rule.update(
            x + 2,
            state,
            x,
            start=x,
            staleness=jnp.int32(0),
            version=jnp.int32(version),
            client=jnp.int32(0),
        )
        seen.append(float(x))
    assert float(rule.evaluated(x, state)) == pytest.approx(np.mean(seen))


# Weights that are known beforehand


def _arrivals(staleness):
    zeros = np.zeros(len(staleness), np.int32)
    return Arrivals(zeros, np.asarray(staleness, np.int32), zeros + 1, zeros, zeros + 1)


@pytest.mark.parametrize(
    "rule",
    [
        mixing.fedasync(0.6, LINEAR),
        mixing.delta(0.3, LINEAR),
        mixing.fedbuff(3),
        mixing.trimmed(3, 0.4),
        mixing.delay_adaptive(0.5),
        mixing.cutoff(0.5, 2),
        mixing.server_optimizer("adam", 0.1),
        mixing.fadas(3),
        mixing.tethered(0.5, 3.0),
        mixing.averaged(mixing.tethered()),
        mixing.bound_update(mixing.delta(0.5), 100.0),
    ],
)
def test_a_table_of_weights_makes_the_same_models(rule):
    d = [0, 1, 2, 0, 5, 1, 9, 2, 3, 1]
    steps = [(0.1 * n, 1 + (-1) ** n, s, 0) for n, s in enumerate(d)]
    weights = rule.weights(_arrivals(d))
    assert weights.dtype == np.float32 and weights.shape == (10,)
    np.testing.assert_array_equal(rule.weights(_arrivals(d[:7])), weights[:7])
    models, alphas = mix(rule, steps)
    again, alphas_again = mix(rule.with_weights(weights), steps)
    np.testing.assert_allclose(models, again, rtol=1e-5)
    np.testing.assert_allclose(alphas, alphas_again, rtol=1e-5)
    if rule.shows_weights:
        np.testing.assert_allclose(alphas, weights, rtol=1e-5)


def test_the_mean_so_far_includes_the_arrival():
    assert mean_so_far(np.array([0, 2, 4])).tolist() == [0, 1, 2]


# Special cases


def test_rules_that_must_be_equal():
    one = fa.staleness.constant()
    rng = np.random.default_rng(0)
    steps = [(*rng.normal(size=2), int(d), int(d % 2)) for d in rng.integers(0, 9, 20)]
    delta = mix(mixing.delta(0.3, one), steps)[0]
    for same in (
        mixing.fedbuff(1, 0.3, one),
        mixing.cutoff(0.3, 10),
        mixing.delay_adaptive(0.3, 10.0),
        mixing.server(optax.sgd(0.3), staleness_fn=one),
        mixing.averaged(mixing.delta(0.3)),
        mixing.bound_update(mixing.delta(0.3), 1e6),
    ):
        np.testing.assert_allclose(mix(same, steps)[0], delta, rtol=1e-4, atol=1e-6)


def test_a_buffer_that_is_not_trimmed_is_that_of_fedbuff():
    rng = np.random.default_rng(1)
    steps = [(*rng.normal(size=2), int(d), 0) for d in rng.integers(0, 9, 20)]
    expected = mix(mixing.fedbuff(4, 0.7), steps)[0]
    np.testing.assert_allclose(
        mix(mixing.trimmed(4, 0.24, 0.7), steps)[0], expected, rtol=1e-4, atol=1e-6
    )


# Bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mixing.delta(0), "delta: step must be finite and > 0, got 0"),
        (lambda: mixing.fedbuff(0), "fedbuff: size must be finite and >= 1, got 0"),
        (lambda: mixing.trimmed(cut=0.5), r"cut must be in \[0, 0.5\), got 0.5"),
        (lambda: mixing.delay_adaptive(1, -1), "usual must be finite and > 0, got -1"),
        (lambda: mixing.cutoff(1, 0), "limit must be finite and >= 1, got 0"),
        (lambda: mixing.asyncfeded(1, 0), "eps must be finite and > 0, got 0"),
        (lambda: mixing.fadas(b1=1.0), r"b1 must be in \[0, 1\), got 1.0"),
        (lambda: mixing.tethered(1.5), r"most must be in \(0, 1\], got 1.5"),
        (lambda: mixing.server(optax.sgd(1.0), 0), "size must be >= 1, got 0"),
        (lambda: mixing.server_optimizer("lion"), "optimizer must be one of sgd, "),
        (lambda: mixing.averaged(mixing.delta(), 0.5), "decay must be .* 1, got 0.5"),
    ],
)
def test_settings_out_of_range_are_one_line(make, words):
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", [mixing.ca2fl, mixing.area])
def test_too_many_clients_are_refused_with_an_estimate(rule):
    model = jax.ShapeDtypeStruct((1_000_000,), jnp.float32)
    with pytest.raises(ValueError, match=r"1000 \(3.73 GiB\)") as error:
        jax.eval_shape(rule(1000).init, model)
    assert "num_clients must be in [1, 536] for the rule" in str(error.value)
    state = jax.eval_shape(rule(536).init, model)
    assert max(leaf.size for leaf in jax.tree.leaves(state)) == 536_000_000


@pytest.mark.parametrize("tabled", [False, True])
@pytest.mark.parametrize(
    "make", [mixing.fedbuff, mixing.trimmed, mixing.fadas, lambda k: mixing.ca2fl(9, k)]
)
def test_a_buffer_larger_than_the_run_is_refused(make, tabled):
    trace = fa.sampled_staleness(9, 20, max_staleness=4, rng=np.random.default_rng(0))
    rule = make(21)
    if tabled and rule.with_weights:
        rule = rule.with_weights(np.ones(20))
    with pytest.raises(ValueError, match=r"size must be in \[1, 20\].*updates.*21"):
        fa.base.check_schedule(rule.update, trace)


def test_a_rejected_arrival_leaves_the_buffer_as_it_is():
    rule = mixing.bound_update(mixing.fedbuff(2, 1.0, fa.staleness.constant()), 5.0)
    models, _ = mix(rule, [(0, 4, 0, 0), (0, 9, 0, 0), (0, 2, 0, 0)])
    assert models == [0, 0, 3]


@pytest.mark.parametrize("name", mixing.RULES)
def test_bfloat16_is_mixed_in_float32_and_rounded_once(name):
    """What a rule remembers is float32; the model is its float32 result, rounded."""
    rng = np.random.default_rng(0)
    local, start, current = (
        fa.Variables({"w": jnp.asarray(x, jnp.bfloat16)}, {"m": jnp.bfloat16(x[0])})
        for x in rng.normal(size=(3, 50))
    )
    rule = mixing.RULES.make(
        name,
        {f"{name}_size": 1},
        alpha=0.6,
        staleness_fn=LINEAR,
        num_clients=2,
    )

    def mix_one(*models):
        local, start, current = models
        return jax.jit(rule.update)(
            local,
            rule.init(current),
            current,
            start=start,
            staleness=jnp.int32(1),
            version=jnp.int32(0),
            client=jnp.int32(1),
        )

    models = local, start, current
    narrow, state, info = mix_one(*models)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), models)
    expected, wide_state, wide_info = mix_one(*wide)
    assert np.array_equal(info.alpha, wide_info.alpha)
    assert narrow.params["w"].dtype == jnp.bfloat16
    assert not np.array_equal(narrow.params["w"], current.params["w"])
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), expected)
    jax.tree.map(np.testing.assert_array_equal, narrow, rounded)
    # AREA remembers models as they were sent.
    kept = state.buffer if name == "area" else state
    for one, other in zip(
        jax.tree.leaves(kept),
        jax.tree.leaves(wide_state.buffer if name == "area" else wide_state),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
