"""Fleets: laws of the promised mean and median, seeds, errors of one line."""

import numpy as np
import pytest

from fedasync_jax import fleet

_LAWS = {
    "constant": fleet.constant(),
    "uniform": fleet.uniform(0.5, 1.5),
    "exponential": fleet.exponential(),
    "log-normal": fleet.log_normal(1.0),
}


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_registry_holds_the_laws():
    assert set(fleet.DELAY_LAWS) == set(_LAWS)


@pytest.mark.parametrize("name", _LAWS)
def test_factors_are_positive_float64_of_the_size(name):
    factors = _LAWS[name](_rng(), 100_000)
    assert factors.shape == (100_000,)
    assert factors.dtype == np.float64
    assert (factors > 0).all()
    assert np.isfinite(factors).all()


@pytest.mark.parametrize(
    ("name", "mean", "median"),
    [
        ("constant", 1, 1),
        ("uniform", 1, 1),
        ("exponential", 1, np.log(2)),
        ("log-normal", np.exp(0.5), 1),
    ],
)
def test_mean_and_median(name, mean, median):
    factors = _LAWS[name](_rng(), 400_000)
    assert factors.mean() == pytest.approx(mean, rel=0.02)
    assert np.median(factors) == pytest.approx(median, rel=0.02)


def test_uniform_stays_within_its_range():
    factors = fleet.uniform(2, 3)(_rng(), 10_000)
    assert 2 <= factors.min() < 2.01
    assert 2.99 < factors.max() < 3
    assert (fleet.uniform(2, 2)(_rng(), 5) == 2).all()


def test_log_normal_has_the_given_spread():
    logarithms = np.log(fleet.log_normal(0.25)(_rng(), 100_000))
    assert logarithms.std() == pytest.approx(0.25, rel=0.02)
    assert (fleet.log_normal(0)(_rng(), 5) == 1).all()


@pytest.mark.parametrize("name", ["uniform", "exponential", "log-normal"])
def test_seed_decides(name):
    draw = _LAWS[name]
    np.testing.assert_array_equal(draw(_rng(1), 9), draw(_rng(1), 9))
    assert (draw(_rng(1), 9) != draw(_rng(2), 9)).all()


def test_fleet_scales_the_client_factors():
    law = fleet.log_normal(0.5)
    made = fleet.make_fleet(7, rng=_rng(3), client_law=law, seconds_per_step=2.5)
    assert made.num_clients == 7
    np.testing.assert_allclose(made.seconds_per_step, 2.5 * law(_rng(3), 7))
    again = fleet.make_fleet(7, rng=_rng(3), client_law=law, seconds_per_step=2.5)
    np.testing.assert_array_equal(made.seconds_per_step, again.seconds_per_step)


def test_default_fleet_has_equal_clients_and_no_noise():
    made = fleet.make_fleet(3, rng=_rng())
    np.testing.assert_array_equal(made.seconds_per_step, np.ones(3))
    np.testing.assert_array_equal(made.task_law(_rng(), 4), np.ones(4))


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (2, 1), (1, np.inf), (np.nan, 1)])
def test_uniform_errors(bounds):
    low, high = bounds
    with pytest.raises(ValueError) as error:
        fleet.uniform(low, high)
    assert str(error.value) == (
        f"uniform: need 0 < low <= high < inf, got low={low}, high={high}"
    )


@pytest.mark.parametrize("sigma", [-0.1, np.inf, np.nan])
def test_log_normal_errors(sigma):
    with pytest.raises(ValueError) as error:
        fleet.log_normal(sigma)
    assert str(error.value) == (
        f"log_normal: sigma must be finite and >= 0, got {sigma}"
    )


@pytest.mark.parametrize("num_clients", [0, -3])
def test_make_fleet_needs_a_client(num_clients):
    with pytest.raises(ValueError) as error:
        fleet.make_fleet(num_clients, rng=_rng())
    assert str(error.value) == f"num_clients must be >= 1, got {num_clients}"


@pytest.mark.parametrize("seconds", [0.0, -1.0, np.inf, np.nan])
def test_make_fleet_needs_a_finite_step_time(seconds):
    with pytest.raises(ValueError) as error:
        fleet.make_fleet(2, rng=_rng(), seconds_per_step=seconds)
    assert str(error.value) == (
        f"seconds_per_step must be finite and > 0, got {seconds}"
    )
