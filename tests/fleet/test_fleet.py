"""Fleets: laws, transfers by hand, seeds, errors of one line."""

import math
import re

import numpy as np
import pytest

from fedasync_jax import fleet
from fedasync_jax.fleet import Network, availability

_LAWS = {
    "constant": fleet.constant(),
    "uniform": fleet.uniform(0.5, 1.5),
    "exponential": fleet.exponential(),
    "log-normal": fleet.log_normal(1.0),
    "pareto": fleet.pareto(3.0),
    "tiers": fleet.tiers([0.2, 0.2], [8.0, 2.0]),
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
        ("pareto", 1.5, 2 ** (1 / 3)),
        ("tiers", 0.6 + 0.2 * 8 + 0.2 * 2, 1),
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


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_pareto_has_its_quantiles(shape):
    factors = fleet.pareto(shape)(_rng(), 400_000)
    below = np.array([0.0, 0.25, 0.5, 0.9, 0.99])
    expected = (1 - below) ** (-1 / shape)
    np.testing.assert_allclose(np.quantile(factors, below), expected, rtol=0.05)
    assert factors.min() >= 1


def test_the_heaviest_tails_stay_finite():
    factors = fleet.pareto(0.01)(_rng(), 1000)
    assert factors.max() == 1e12
    assert 0.1 < np.mean(factors < 1e12) < 0.3  # 1 - (1e12)^(-0.01)


@pytest.mark.parametrize(
    ("shares", "factors"),
    [
        ([0.2], [8.0]),
        ([0.5, 0.3], [0.25, 3.0]),
        ([0.25, 0.75], [2.0, 5.0]),
        ([0.1] * 10, [float(factor) for factor in range(2, 12)]),
        ([], []),
    ],
)
def test_tiers_have_their_shares_and_the_rest_has_factor_1(shares, factors):
    drawn = fleet.tiers(shares, factors)(_rng(), 200_000)
    rest = 1 - sum(shares)
    expected = dict(zip(factors, shares, strict=True))
    if rest > 1e-9:
        expected[1.0] = rest
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == sorted(expected)
    shares_found = counts / len(drawn)
    np.testing.assert_allclose(shares_found, [expected[v] for v in values], atol=0.004)


@pytest.mark.parametrize(
    "name", ["uniform", "exponential", "log-normal", "pareto", "tiers"]
)
def test_seed_decides(name):
    draw = _LAWS[name]
    np.testing.assert_array_equal(draw(_rng(1), 9), draw(_rng(1), 9))
    assert (draw(_rng(1), 9) != draw(_rng(2), 9)).any()


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
    assert (made.network, made.when_away, made.failure_rate) == (None, "pause", 0.0)
    assert made.availability == availability.always()


def test_the_parts_of_a_fleet_are_those_that_it_was_given():
    network = Network(*np.ones((3, 3)))
    there, law = availability.daily(0.0, 9.0), fleet.exponential()
    made = fleet.make_fleet(
        3,
        rng=_rng(),
        task_law=law,
        network=network,
        availability=there,
        when_away="lose",
        failure_rate=0.25,
    )
    assert made[1:] == (law, network, there, "lose", 0.25)


def test_every_client_may_have_its_own_step_time():
    law, seconds = fleet.uniform(1, 2), np.array([1.0, 10.0, 100.0])
    made = fleet.make_fleet(3, rng=_rng(3), client_law=law, seconds_per_step=seconds)
    np.testing.assert_allclose(made.seconds_per_step, seconds * law(_rng(3), 3))


# Networks


def test_transfers_by_hand():
    network = Network(
        np.array([100.0, 50.0, math.inf]),
        np.array([10.0, math.inf, 40.0]),
        np.array([0.0, 0.5, 0.25]),
    )
    down, up = fleet.make_fleet(3, rng=_rng(), network=network).transfer_seconds(200)
    np.testing.assert_array_equal(down, [2.0, 4.5, 0.25])
    np.testing.assert_array_equal(up, [20.0, 0.5, 5.25])


def test_an_empty_model_still_takes_the_latency():
    network = Network(np.ones(2), np.ones(2), np.array([0.0, 3.0]))
    down, up = fleet.make_fleet(2, rng=_rng(), network=network).transfer_seconds(0)
    np.testing.assert_array_equal([down, up], [[0.0, 3.0]] * 2)


def test_without_a_network_transfers_take_no_time():
    down, up = fleet.make_fleet(4, rng=_rng()).transfer_seconds(10**9)
    np.testing.assert_array_equal([down, up], np.zeros((2, 4)))


def test_one_factor_makes_all_of_a_clients_network_slow():
    law = fleet.log_normal(1.0)
    network = fleet.make_network(
        50, downlink=8.0, uplink=2.0, latency=0.5, law=law, rng=_rng(3)
    )
    down, up = fleet.make_fleet(50, rng=_rng(), network=network).transfer_seconds(16)
    factors = law(_rng(3), 50)
    np.testing.assert_allclose(down, factors * (0.5 + 16 / 8))
    np.testing.assert_allclose(up, factors * (0.5 + 16 / 2))


@pytest.mark.parametrize("field", ["downlink", "uplink"])
def test_a_network_that_never_brings_a_model_is_refused(field):
    rates = {"downlink": 1.0, "uplink": 1.0} | {field: 1e-320}
    network = fleet.make_network(
        2, downlink=rates["downlink"], uplink=rates["uplink"], rng=_rng()
    )
    devices = fleet.make_fleet(2, rng=_rng(), network=network)
    with pytest.raises(ValueError, match=f"{field} must bring a model of 1,000 bytes"):
        devices.transfer_seconds(1000)


def test_networks_are_equal_unless_a_law_is_given():
    network = fleet.make_network(3, downlink=math.inf, uplink=2.0, rng=_rng())
    np.testing.assert_array_equal(network.downlink, [math.inf] * 3)
    np.testing.assert_array_equal(network.uplink, [2.0] * 3)
    np.testing.assert_array_equal(network.latency, np.zeros(3))


# Errors


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


def test_the_step_time_that_is_wrong_is_named():
    with pytest.raises(ValueError) as error:
        fleet.make_fleet(3, rng=_rng(), seconds_per_step=np.array([2.0, np.inf, 1.0]))
    assert str(error.value) == "seconds_per_step must be finite and > 0, got inf"


@pytest.mark.parametrize("shape", [0.0, -1.0, np.inf, np.nan])
def test_pareto_errors(shape):
    with pytest.raises(ValueError) as error:
        fleet.pareto(shape)
    assert str(error.value) == f"pareto: shape must be finite and > 0, got {shape}"


@pytest.mark.parametrize(
    "shares", [(0.0,), (-0.1, 0.5), (0.6, 0.5), (1.1,), (np.nan,), (np.inf,)]
)
def test_tiers_errors_of_shares(shares):
    with pytest.raises(ValueError) as error:
        fleet.tiers(shares, [2.0] * len(shares))
    assert str(error.value) == (
        f"tiers: shares must be > 0 and sum to 1 at most, got {shares}"
    )


@pytest.mark.parametrize(
    "factors", [(), (1.0,), (1.0, 2.0, 3.0), (0.0, 1.0), (1.0, np.inf), (1.0, np.nan)]
)
def test_tiers_errors_of_factors(factors):
    with pytest.raises(ValueError) as error:
        fleet.tiers([0.2, 0.3], factors)
    assert str(error.value) == (
        "tiers: factors must be 2 numbers (one per share), finite and > 0, "
        f"got {factors}"
    )


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *(
            (field, value, "> 0 bytes per second")
            for field in ("downlink", "uplink")
            for value in (0.0, -1.0, np.nan)
        ),
        *(("latency", v, "finite and >= 0 seconds") for v in (-1.0, np.inf, np.nan)),
    ],
)
def test_make_network_errors(field, value, allowed):
    arguments = {"downlink": 1.0, "uplink": 1.0, "latency": 0.0} | {field: value}
    with pytest.raises(ValueError) as error:
        fleet.make_network(2, law=None, rng=_rng(), **arguments)
    assert str(error.value) == f"{field} must be {allowed}, got {value}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"seconds_per_step": np.ones(3)},
            "seconds_per_step must have shape (2,), got (3,)",
        ),
        (
            {"seconds_per_step": np.ones((2, 1))},
            "seconds_per_step must have shape (2,), got (2, 1)",
        ),
        (
            {"network": Network(np.ones(3), np.ones(2), np.ones(2))},
            "network.downlink must have shape (2,), got (3,)",
        ),
        (
            {"network": Network(np.ones(2), np.ones(1), np.ones(2))},
            "network.uplink must have shape (2,), got (1,)",
        ),
        (
            {"network": Network(np.ones(2), np.ones(2), np.ones(()))},
            "network.latency must have shape (2,), got ()",
        ),
        ({"when_away": "wait"}, "when_away must be pause or lose, got 'wait'"),
        ({"failure_rate": 1.0}, "failure_rate must be in [0, 1), got 1.0"),
        ({"failure_rate": -0.1}, "failure_rate must be in [0, 1), got -0.1"),
        ({"failure_rate": np.nan}, "failure_rate must be in [0, 1), got nan"),
    ],
)
def test_make_fleet_errors(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fleet.make_fleet(2, rng=_rng(), **arguments)
