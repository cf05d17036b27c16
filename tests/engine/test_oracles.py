"""Answers that can be computed without the engine, in float64.

Quadratic clients f_i(x) = 1/2 (x - b_i)' A_i (x - b_i) make a whole run a linear
recursion; strongly convex ones have rates of convergence that hold for every schedule.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedasync_jax as fa
from fedasync_jax import mixing
from fedasync_jax.base import ClientData
from fedasync_jax.mixing import staleness
from fedasync_jax.models import make_model
from fedasync_jax.schedule.trace import make_trace

NUM_CLIENTS, DIM, NUM_UPDATES, MAX_STEPS = 5, 3, 30, 4
START = np.array([3.0, -2.0, 1.0])
BATCHING = fa.Batching(max_width=4)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def make_quadratics(rng, num_clients=NUM_CLIENTS, low=0.2, high=1.0):
    """Return A [C, n, n], eigenvalues in [low, high], and b [C, n]."""
    bases, _ = np.linalg.qr(rng.normal(size=(num_clients, DIM, DIM)))
    eigenvalues = rng.uniform(low, high, size=(num_clients, DIM))
    eigenvalues[:, :2] = low, high
    matrices = np.einsum("cij,cj,ckj->cik", bases, eigenvalues, bases)
    return matrices, rng.normal(size=(num_clients, DIM))


def quadratic_loss(params, batch, key):
    del key
    error = params[None] - batch["b"]
    return 0.5 * jnp.mean(jnp.einsum("bi,bij,bj->b", error, batch["A"], error))


MODEL = make_model(lambda key: jnp.asarray(START), quadratic_loss)


def make_worker(matrices, targets, gamma, rho, max_steps=MAX_STEPS):
    """Return the real Worker: sample i, the only one of client i, is its quadratic."""
    rows = np.arange(len(targets), dtype=np.int32)
    data = ClientData({"A": matrices, "b": targets}, rows, rows, np.ones_like(rows))
    optimizer = optax.chain(fa.add_proximal(rho), optax.sgd(gamma))
    return fa.make_local_update(
        MODEL, data, optimizer, batch_size=1, max_steps=max_steps
    )


def make_schedule(client, start, num_steps, num_slots=NUM_UPDATES + 1):
    """Return the trace of any list of clients and start versions.

    The number of slots is the same for all, so that they share their programs.
    """
    num_updates = len(client)
    last = np.full(num_updates + 1, -1)
    last[start] = np.arange(num_updates)
    trace = make_trace(
        client=client,
        task=np.arange(num_updates),
        start_version=start,
        start_time=start,
        arrival_time=np.arange(num_updates) + 1,
        num_steps=num_steps,
        last_reader=last,
    )
    unread = trace.write_slot == trace.num_slots
    write_slot = np.where(unread, num_slots, trace.write_slot).astype(np.int32)
    return dataclasses.replace(trace, num_slots=num_slots, write_slot=write_slot)


def draw_schedule(rng):
    """Draw clients, start versions of any age up to a random limit, and H in 1..4."""
    versions = np.arange(NUM_UPDATES)
    limit = rng.integers(0, NUM_UPDATES)
    start = versions - rng.integers(0, np.minimum(versions, limit) + 1)
    client = rng.integers(0, NUM_CLIENTS, NUM_UPDATES)
    return client, start, rng.integers(1, MAX_STEPS + 1, NUM_UPDATES)


def the_model(variables):
    return {"x": variables.params}


def run_versions(trace, worker, mixer, start=START, batching=BATCHING, every=1):
    """Return versions 0, every, .., T of a run of the engine, float [., n]."""
    result = fa.run(
        trace,
        worker,
        mixer,
        MODEL.init(jax.random.key(0))._replace(params=jnp.asarray(start)),
        jax.random.key(1),
        batching=batching,
        evaluate_fn=the_model,
        eval_every=every,
    )
    return np.stack([e.metrics["x"] for e in result.evaluations])


# --- the linear recursion ---


def find_gain(matrix, gamma, rho, num_steps):
    """Return P = (I - M^H) (A + rho I)^-1 A, M = I - gamma (A + rho I)."""
    identity = np.eye(DIM)
    damped = matrix + rho * identity
    power = np.linalg.matrix_power(identity - gamma * damped, num_steps)
    return (identity - power) @ np.linalg.solve(damped, matrix)


def local_models(start, matrix, target, gamma, rho, num_steps):
    """Return x_tau - P (x_tau - b)."""
    gain = find_gain(matrix, gamma, rho, num_steps)
    return start - gain @ (start - target)


def recursion(schedule, problem, alphas, gamma, rho):
    """Return all versions of the server, without JAX."""
    matrices, targets = problem
    x = [START]
    for t, (client, tau, num_steps) in enumerate(zip(*schedule, strict=True)):
        local = local_models(
            x[tau], matrices[client], targets[client], gamma, rho, num_steps
        )
        alpha = alphas[t]
        x.append((1 - alpha) * x[t] + alpha * local)
    return np.array(x)


SETTINGS = [
    # alpha, s in the engine, s by hand, gamma, rho
    (0.6, staleness.constant(), lambda d: 1.0, 0.5, 0.0),
    (0.9, staleness.polynomial(0.5), lambda d: (d + 1) ** -0.5, 0.9, 0.1),
    (0.7, staleness.hinge(10, 4), lambda d: 1 / (10 * max(d - 4, 0) + 1), 0.3, 1.0),
    (1.0, staleness.exponential(0.3), lambda d: np.exp(-0.3 * d), 1.0, 0.02),
    (0.4, staleness.linear(2.0), lambda d: 1 / (2 * d + 1), 0.1, 3.0),
]


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_the_engine_is_the_linear_recursion_on_forty_random_schedules(number):
    alpha, staleness_fn, by_hand, gamma, rho = SETTINGS[number]
    rng = np.random.default_rng(number)
    problem = make_quadratics(rng)
    worker = make_worker(*problem, gamma, rho)
    mixer = mixing.fedasync(alpha, staleness_fn)
    for _ in range(40):
        schedule = draw_schedule(rng)
        alphas = [alpha * by_hand(t - tau) for t, tau in enumerate(schedule[1])]
        expected = recursion(schedule, problem, alphas, gamma, rho)
        got = run_versions(make_schedule(*schedule), worker, mixer)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


def test_the_recursion_holds_for_sampled_staleness_and_a_falling_alpha():
    rng = np.random.default_rng(9)
    problem, gamma, rho = make_quadratics(rng), 0.5, 0.2
    trace = fa.sampled_staleness(
        NUM_CLIENTS, NUM_UPDATES, max_staleness=4, num_steps=(1, 4), rng=rng
    )
    mixer = mixing.fedasync(lambda t: jnp.where(t < 11, 0.8, 0.4), staleness.constant())
    schedule = trace.client, trace.start_version, trace.num_steps
    alphas = [0.8] * 11 + [0.4] * (NUM_UPDATES - 11)
    expected = recursion(schedule, problem, alphas, gamma, rho)
    got = run_versions(trace, make_worker(*problem, gamma, rho), mixer)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


# --- rates of convergence ---

MU, SMOOTHNESS = 0.2, 1.0


def gaps(trace, alpha, gamma):
    """Return F(x_t) - F* of a run whose clients all have the same quadratic."""
    rng = np.random.default_rng(4)
    (matrix,), (target,) = make_quadratics(rng, 1, MU, SMOOTHNESS)
    alike = np.tile(matrix, (NUM_CLIENTS, 1, 1)), np.tile(target, (NUM_CLIENTS, 1))
    mixer = mixing.fedasync(alpha, staleness.constant())
    error = run_versions(trace, make_worker(*alike, gamma, 0.0), mixer) - target
    return 0.5 * np.einsum("ti,ij,tj->t", error, matrix, error)


def delayed(delay, num_steps, rng=None):
    """Return a schedule of staleness ``delay``, or of at most that if ``rng``."""
    versions = np.arange(NUM_UPDATES)
    oldest = np.minimum(versions, delay)
    late = oldest if rng is None else rng.integers(0, oldest + 1)
    client = versions % NUM_CLIENTS
    return make_schedule(client, versions - late, np.full(NUM_UPDATES, num_steps))


def delayed_rate(alpha, q, delay):
    """Return the root in (0, 1) of z^(K+1) = (1 - alpha) z^K + alpha q."""
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        above = middle ** (delay + 1) > (1 - alpha) * middle**delay + alpha * q
        low, high = (low, middle) if above else (middle, high)
    return high


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("alpha", [0.3, 0.9])
def test_without_staleness_the_gap_falls_by_beta(alpha, num_steps):
    gamma = 1 / SMOOTHNESS
    gap = gaps(delayed(0, num_steps), alpha, gamma)
    beta = 1 - alpha + alpha * (1 - gamma * MU) ** num_steps
    bound = beta ** np.arange(NUM_UPDATES + 1) * gap[0]
    assert (gap <= bound * (1 + 1e-12)).all()


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("delay", [1, 5])
@pytest.mark.parametrize("alpha", [0.3, 0.9])
def test_with_bounded_staleness_the_gap_falls_by_lambda(alpha, delay, drawn):
    gamma, num_steps = 0.5 / SMOOTHNESS, 2
    rng = np.random.default_rng(0) if drawn else None
    gap = gaps(delayed(delay, num_steps, rng), alpha, gamma)
    rate = delayed_rate(alpha, (1 - gamma * MU) ** num_steps, delay)
    assert 0 < rate < 1
    bound = rate ** np.arange(NUM_UPDATES + 1) * gap[0]
    assert (gap <= bound * (1 + 1e-12)).all()


def test_the_rate_without_staleness_does_not_hold_under_delay():
    alpha, gamma, num_steps = 0.9, 0.5 / SMOOTHNESS, 2
    gap = gaps(delayed(5, num_steps), alpha, gamma)
    beta = 1 - alpha + alpha * (1 - gamma * MU) ** num_steps
    bound = beta ** np.arange(NUM_UPDATES + 1) * gap[0]
    assert (gap > 1.5 * bound).any()


# --- client drift: where clients that differ lead to ---

GAMMA = 0.5
# H and rho, from the least drift to the most at the same rho = 0, then back again.
DRIFTS = [(1, 0.0), (3, 0.0), (8, 0.0), (8, 1.0), (8, 2.0)]


def find_minimiser(matrices, targets):
    """Return the x at which the mean of the objectives is smallest."""
    return np.linalg.solve(
        matrices.sum(axis=0), np.einsum("cij,cj->i", matrices, targets)
    )


def find_fixed_points(matrices, targets, alpha, rho, num_steps):
    """Return the versions [C, n] between which clients in turn lead, without staleness.

    Client i maps x to (I - alpha P_i) x + alpha P_i b_i. The first is the fixed point
    of the composition of all, each further one what the next client makes of it.
    """
    gains = [alpha * find_gain(a, GAMMA, rho, num_steps) for a in matrices]
    linear, constant = np.eye(DIM), np.zeros(DIM)
    for gain, target in zip(gains, targets, strict=True):
        linear = linear - gain @ linear
        constant = constant - gain @ (constant - target)
    points = [np.linalg.solve(np.eye(DIM) - linear, constant)]
    for gain, target in zip(gains[:-1], targets, strict=False):
        points.append(points[-1] - gain @ (points[-1] - target))
    return np.array(points)


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_two_clients_in_turn_lead_to_the_fixed_point_of_their_composed_map(alpha):
    problem = make_quadratics(np.random.default_rng(1), 2)
    minimiser = find_minimiser(*problem)
    num_updates = 600
    versions = np.arange(num_updates)
    mixer = mixing.fedasync(alpha, staleness.constant())
    distances = []
    for num_steps, rho in DRIFTS:
        points = find_fixed_points(*problem, alpha, rho, num_steps)
        trace = make_schedule(versions % 2, versions, np.full(num_updates, num_steps))
        worker = make_worker(*problem, GAMMA, rho, max_steps=num_steps)
        got = run_versions(trace, worker, mixer, every=num_updates - 1)
        np.testing.assert_allclose(got[-2:], points[::-1], rtol=0, atol=1e-9)
        distances.append(np.linalg.norm(got[-1] - minimiser))
    assert min(distances) > 0.02  # of two in turn the last one counts more, always
    assert distances[0] < distances[1] < distances[2] > distances[3] > distances[4]


def test_in_expectation_one_local_step_has_no_drift_and_more_have():
    """All clients once from each version, mixed by their mean: x = mean of the maps."""
    problem = make_quadratics(np.random.default_rng(0))
    minimiser = find_minimiser(*problem)
    num_updates = 150 * NUM_CLIENTS
    rows = np.arange(num_updates)
    start = rows // NUM_CLIENTS * NUM_CLIENTS
    mixer = mixing.fedbuff(NUM_CLIENTS, 0.9, staleness.constant())
    distances = []
    for num_steps, rho in DRIFTS:
        gains = np.array([find_gain(a, GAMMA, rho, num_steps) for a in problem[0]])
        trace = make_schedule(
            rows % NUM_CLIENTS, start, np.full(num_updates, num_steps)
        )
        worker = make_worker(*problem, GAMMA, rho, max_steps=num_steps)
        got = run_versions(trace, worker, mixer, every=num_updates)[-1]
        fixed_point = find_minimiser(gains, problem[1])  # weights P_i for A_i
        np.testing.assert_allclose(got, fixed_point, rtol=0, atol=1e-9)
        distances.append(np.linalg.norm(got - minimiser))
    assert distances[0] < 1e-9
    assert 0.05 < distances[1] < distances[2] > distances[3] > distances[4] > 0.05


# --- special cases ---


def test_alpha_one_without_delay_is_plain_gradient_descent():
    rng = np.random.default_rng(2)
    matrices, targets = make_quadratics(rng, 1)
    gamma, num_steps = 0.3, 3
    client = np.zeros(NUM_UPDATES, int)
    versions = np.arange(NUM_UPDATES)
    trace = make_schedule(client, versions, np.full(NUM_UPDATES, num_steps))
    total = num_steps * NUM_UPDATES
    worker = make_worker(matrices, targets, gamma, 0.0, max_steps=total)
    mixer = mixing.fedasync(1.0, staleness.polynomial(0.5))
    got = run_versions(trace, worker, mixer)

    # All steps in one task, without any server: the same numbers, bit for bit.
    alone = functools.partial(
        worker, MODEL.init(jax.random.key(0)), jnp.int32(0), jax.random.key(1)
    )
    for t in (1, 7, NUM_UPDATES):
        trained, _ = jax.jit(alone)(jnp.int32(num_steps * t))
        np.testing.assert_array_equal(got[t], trained.params)
    x = START
    for _ in range(total):
        x = x - gamma * matrices[0] @ (x - targets[0])
    np.testing.assert_allclose(got[-1], x, rtol=1e-13)


def test_a_hinge_behind_the_largest_staleness_is_constant_bit_for_bit():
    rng = np.random.default_rng(6)
    worker = make_worker(*make_quadratics(rng), 0.5, 0.1)
    trace = delayed(5, 2, rng)
    assert trace.staleness.max() == 5
    plain, bent, early = (
        run_versions(trace, worker, mixing.fedasync(0.9, staleness_fn))
        for staleness_fn in (
            staleness.constant(),
            staleness.hinge(10, 5),
            staleness.hinge(10, 4),
        )
    )
    np.testing.assert_array_equal(plain, bent)
    assert not np.allclose(plain, early)


def test_identical_clients_at_the_optimum_stay_there():
    rng = np.random.default_rng(7)
    (matrix,), (target,) = make_quadratics(rng, 1)
    alike = np.tile(matrix, (NUM_CLIENTS, 1, 1)), np.tile(target, (NUM_CLIENTS, 1))
    mixer = mixing.fedasync(0.7, staleness.polynomial(0.5))
    got = run_versions(
        delayed(5, 3, rng), make_worker(*alike, 0.9, 0.5), mixer, start=target
    )
    np.testing.assert_allclose(got, np.tile(target, (len(got), 1)), rtol=1e-14)
