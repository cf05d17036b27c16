"""From settings to the fleet: every law, network and habit as it was asked for."""

import numpy as np
import pytest

from fedasync_jax import fleet
from fedasync_jax.experiment.presets import FLEETS, make_settings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.fleet import Fleet, availability
from fedasync_jax.fleet.build import build_fleet
from fedasync_jax.fleet.files import read_windows

_NUM_CLIENTS = 40
_FIELDS = {
    "uniform": {"range": (2.0, 3.0)},
    "log-normal": {"sigma": 0.75},
    "pareto": {"shape": 1.5},
}
_TIERS = {"tier_shares": (0.3, 0.2), "tier_factors": (4.0, 0.5)}
_LAWS = {
    "constant": fleet.constant(),
    "uniform": fleet.uniform(2.0, 3.0),
    "exponential": fleet.exponential(),
    "log-normal": fleet.log_normal(0.75),
    "pareto": fleet.pareto(1.5),
    "tiers": fleet.tiers((0.3, 0.2), (4.0, 0.5)),
}


def _settings(**fields) -> Settings:
    return make_settings(num_clients=_NUM_CLIENTS, **fields)


def _build(settings: Settings) -> Fleet:
    clients = settings.partition.num_clients
    return build_fleet(settings.fleet, clients, settings.make_rng)


def _law_fields(of: str, name: str) -> dict:
    numbers = {f"{of}_{k}": v for k, v in _FIELDS.get(name, {}).items()}
    return {f"{of}_law": name} | numbers | (_TIERS if name == "tiers" else {})


def _is_there(devices: Fleet, hours: float) -> np.ndarray:
    """Return who is there, bool [C]."""
    clients = np.arange(_NUM_CLIENTS)
    return devices.availability(clients, np.full(_NUM_CLIENTS, 3600.0 * hours))[0]


def test_every_law_has_a_test():
    assert set(_LAWS) == set(fleet.DELAY_LAWS)


@pytest.mark.parametrize("name", _LAWS)
def test_clients_are_as_slow_as_their_law(name):
    settings = _settings(seconds_per_step=2.5, **_law_fields("client", name))
    devices = _build(settings)
    factors = _LAWS[name](settings.make_rng("fleet"), _NUM_CLIENTS)
    np.testing.assert_array_equal(devices.seconds_per_step, 2.5 * factors)


@pytest.mark.parametrize("name", _LAWS)
def test_tasks_last_as_long_as_their_law(name):
    devices = _build(_settings(**_law_fields("task", name)))
    found, expected = (
        law(np.random.default_rng(7), 50) for law in (devices.task_law, _LAWS[name])
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", _LAWS)
def test_connections_are_as_slow_as_their_law(name):
    settings = _settings(
        downlink=8.0, uplink=2.0, latency=0.5, **_law_fields("network", name)
    )
    down, up = _build(settings).transfer_seconds(16)
    factors = _LAWS[name](settings.make_rng("network"), _NUM_CLIENTS)
    np.testing.assert_allclose(down, factors * (0.5 + 16 / 8))
    np.testing.assert_allclose(up, factors * (0.5 + 16 / 2))


def test_the_three_laws_are_of_their_own():
    settings = _settings(
        client_law="constant", task_law="uniform", network_law="exponential", latency=1
    )
    devices = _build(settings)
    assert set(devices.seconds_per_step.tolist()) == {1.0}
    drawn = devices.task_law(np.random.default_rng(0), 50)
    assert 0.5 < drawn.min() < drawn.max() < 1.5
    assert len(set(devices.transfer_seconds(0)[0].tolist())) == _NUM_CLIENTS


def test_without_numbers_there_is_no_network():
    assert _build(_settings(network_law="exponential")).network is None


@pytest.mark.parametrize(
    ("fields", "down", "up"),
    [
        ({"downlink": 4.0}, 25.0, 0.0),
        ({"uplink": 4.0}, 0.0, 25.0),
        ({"latency": 0.5}, 0.5, 0.5),
        ({"uplink": 4.0, "latency": 0.5}, 0.5, 25.5),
    ],
)
def test_what_a_network_is_not_limited_by_takes_no_time(fields, down, up):
    found = _build(_settings(**fields)).transfer_seconds(100)
    expected = [[down] * _NUM_CLIENTS, [up] * _NUM_CLIENTS]
    np.testing.assert_array_equal(found, expected)


def test_habits_are_those_of_the_settings():
    assert _build(_settings())[3:] == (availability.always(), "pause", 0.0)
    devices = _build(_settings(when_away="lose", failure_rate=0.25))
    assert (devices.when_away, devices.failure_rate) == ("lose", 0.25)


def test_on_off_has_the_means_of_the_settings():
    settings = _settings(availability="on-off", mean_on=300.0, mean_off=100.0)
    devices = _build(settings)
    rng = settings.make_rng("availability")
    assert devices.availability == availability.on_off(300.0, 100.0, rng=rng)
    share = np.mean([_is_there(devices, hours).mean() for hours in range(200)])
    assert share == pytest.approx(0.75, abs=0.02)


def test_daily_is_the_hours_of_charging():
    devices = _build(
        _settings(availability="daily", charging_from=22.0, charging_hours=8.0)
    )
    for hours, is_there in ((0, True), (5.9, True), (6, False), (21.9, False)):
        assert set(_is_there(devices, hours).tolist()) == {is_there}
        assert set(_is_there(devices, hours + 48).tolist()) == {is_there}


def test_time_zones_are_spread_evenly_around_the_day():
    devices = _build(
        _settings(
            availability="daily", charging_from=22.0, charging_hours=8.0, time_zones=3
        )
    )
    # Local times are 0, 8 and 16 h ahead: one zone sleeps at a time.
    zones = [_is_there(devices, hours) for hours in (0, 8, 16)]
    np.testing.assert_array_equal(np.sum(zones, axis=0), np.ones(_NUM_CLIENTS))
    assert all(zone.sum() > 5 for zone in zones)


def test_phones_are_there_when_all_three_conditions_hold():
    settings = _settings(
        availability="idle-charging-unmetered",
        mean_on=30_000.0,
        mean_off=1000.0,
        charging_from=1.0,
        charging_hours=20.0,
        unmetered_on=20_000.0,
        unmetered_off=5000.0,
    )
    devices = _build(settings)
    hours = np.arange(2000) + 0.5
    there = np.array([_is_there(devices, h) for h in hours])
    charging = (hours % 24 > 1) & (hours % 24 < 21)
    assert not there[~charging].any()
    # Idle and unmetered are independent: 30/31 and 20/25 of the time.
    assert there[charging].mean() == pytest.approx(30 / 31 * 20 / 25, abs=0.01)
    clients = np.arange(_NUM_CLIENTS)
    times = np.full(_NUM_CLIENTS, 3600.0 * 5)
    stays = devices.availability(clients, times)[1] - times
    assert stays.max() < 3600.0 * 16  # until the plug is pulled, at most


@pytest.mark.parametrize("field", ["mean_on", "unmetered_on"])
def test_each_of_the_conditions_can_keep_a_phone_away(field):
    usual = dict.fromkeys(("mean_on", "unmetered_on"), 1e7)
    usual |= dict.fromkeys(("mean_off", "unmetered_off"), 1.0)
    settings = _settings(
        availability="idle-charging-unmetered", charging_hours=24.0, **usual
    )
    assert _is_there(_build(settings), 9).mean() > 0.95
    rarely = settings.replace(**{field: 1.0, field.replace("_on", "_off"): 1e4})
    assert _is_there(_build(rarely), 9).mean() < 0.05


def test_windows_are_replayed_from_a_file(tmp_path):
    path = tmp_path / "windows.csv"
    path.write_text("client,start,end\n0,0,3600\n0,7200,inf\n39,3600,10800\n")
    devices = _build(_settings(availability="replay", availability_path=path))
    recorded = availability.replay(*read_windows(path, _NUM_CLIENTS), _NUM_CLIENTS)
    assert devices.availability == recorded
    there = [set(np.flatnonzero(_is_there(devices, h)).tolist()) for h in range(4)]
    assert there == [{0}, {39}, {0, 39}, {0}]


def test_speeds_are_read_from_a_file_and_have_the_client_law_on_top(tmp_path):
    path = tmp_path / "speeds.csv"
    seconds = np.arange(1.0, _NUM_CLIENTS + 1)
    rows = [f"{client},{s}" for client, s in enumerate(seconds)]
    path.write_text("\n".join(["client,seconds_per_step", *reversed(rows)]) + "\n")
    plain = _build(_settings(speeds_path=path, client_law="constant"))
    np.testing.assert_array_equal(plain.seconds_per_step, seconds)
    settings = _settings(speeds_path=path, client_law="uniform", seconds_per_step=9.0)
    factors = fleet.uniform(0.5, 1.5)(settings.make_rng("fleet"), _NUM_CLIENTS)
    found = _build(settings).seconds_per_step
    np.testing.assert_array_equal(found, seconds * factors)


@pytest.mark.parametrize("field", ["speeds_path", "availability_path"])
def test_a_file_that_is_missing_or_bad_is_one_line_that_names_it(field, tmp_path):
    habit = {"availability": "replay"} if field == "availability_path" else {}
    for content in (None, "client,what\n0,1\n"):
        path = tmp_path / "fleet.csv"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ValueError, match=r"^[^\n]*fleet\.csv[^\n]*$"):
            _build(_settings(**habit, **{field: path}))


@pytest.mark.parametrize("name", [None, *FLEETS])
def test_the_seed_decides(name):
    def make(seed):
        fields = {} if name else {"task_law": "exponential", "latency": 1.0}
        fields |= {} if name else {"network_law": "pareto", "availability": "on-off"}
        settings = make_settings(fleet=name, num_clients=50, seed=seed, **fields)
        return _build(settings)

    first, same, other = make(1), make(1), make(2)
    np.testing.assert_array_equal(first.seconds_per_step, same.seconds_per_step)
    assert (first.seconds_per_step != other.seconds_per_step).any()
    for transfers, again, others in zip(
        *(devices.transfer_seconds(100) for devices in (first, same, other)),
        strict=True,
    ):
        np.testing.assert_array_equal(transfers, again)
        assert (transfers != others).any() or name == "stragglers"
    if name != "stragglers":
        assert first.availability != other.availability
    assert first.availability == same.availability


def test_what_is_drawn_for_one_purpose_does_not_move_the_others():
    plain = _build(_settings(availability="on-off"))
    other = _build(
        _settings(
            availability="on-off",
            client_law="exponential",
            task_law="uniform",
            latency=1.0,
            network_law="pareto",
        )
    )
    assert plain.availability == other.availability
    with_network = _build(_settings(latency=1.0, network_law="pareto"))
    np.testing.assert_array_equal(plain.seconds_per_step, with_network.seconds_per_step)
