"""Presets: the numbers of the protocol, and settings that may not contradict."""

import numpy as np
import pytest

from fedasync_jax.experiment.presets import FLEETS, PRESETS, make_settings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.fleet import Fleet
from fedasync_jax.fleet.build import build_fleet
from fedasync_jax.fleet.settings import FleetSettings


def test_the_default_is_digits():
    assert make_settings() == make_settings("digits") == Settings()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_has_a_line_of_description(name):
    assert isinstance(make_settings(name), Settings)
    assert PRESETS[name].description and "\n" not in PRESETS[name].description


def test_cifar10_is_the_protocol():
    settings = make_settings("cifar10-paper")
    assert settings["num_updates"] * 10 == 20_000  # gradients: 500 / 50 a task
    assert (settings["epochs"], settings["batch_size"]) == (1.0, 50)
    assert settings.worker.proximal_weight * settings["step_size"] == pytest.approx(
        0.005
    )
    assert (settings["alpha"], settings["alpha_drop_at"], settings["alpha_drop"]) == (
        0.6,
        800,
        0.5,
    )
    assert (settings["warmup_epochs"], settings["warmup_step_size"]) == (5, 0.01)
    assert (settings["weight_decay"], settings["momentum"]) == (1e-4, 0.0)
    small = make_settings("cifar10-small")
    assert [4 * c for c in small["cnn_channels"]] == list(settings["cnn_channels"])


def test_wikitext2_is_the_protocol():
    settings = make_settings("wikitext2-paper")
    assert settings.worker.proximal_weight * settings["step_size"] == pytest.approx(
        1e-4
    )
    assert (settings["step_size"], settings["clip_norm"]) == (20.0, 0.25)
    assert (settings["plateau_factor"], settings["plateau_on"]) == (0.25, "validation")
    assert (settings["num_updates"], settings["lstm_biases"]) == (4000, 2)
    assert settings["alpha_drop_at"] is None and settings["weight_decay"] == 0


def test_the_hinge_of_wikitext2_bends_later_at_a_large_staleness():
    numbers = ("hinge_a", "hinge_b", "max_staleness")
    small, large = (make_settings(f"wikitext2-paper{end}") for end in ("", "-16"))
    assert [small[name] for name in numbers] == [10.0, 2.0, 4]
    assert [large[name] for name in numbers] == [10.0, 4.0, 16]
    differs = {k for k, v in small.flat().items() if large[k] != v}
    assert differs == {"hinge_b", "max_staleness"}


def test_the_product_of_step_size_and_rho_takes_the_place_of_the_presets_rho():
    settings = make_settings("cifar10-paper", gamma_rho=0.01, step_size=0.2)
    assert settings["rho"] is None
    assert settings.worker.proximal_weight == pytest.approx(0.05)
    with pytest.raises(ValueError, match="rho must not be set together with gamma_rho"):
        make_settings("cifar10-paper", gamma_rho=0.01, rho=0.05)


def test_an_unknown_preset_is_one_line():
    with pytest.raises(ValueError, match=r"^preset must be one of digits, .* got 'x'$"):
        make_settings("x")


# Fleets


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", FLEETS)
def test_a_fleet_goes_with_every_preset_and_is_all_of_its_fields(name, preset):
    settings = make_settings(preset, fleet=name, schedule="immediate")
    fields = FLEETS[name].fields
    assert {field: settings[field] for field in fields} == fields
    plain = make_settings(preset, schedule="immediate")
    for name, value in plain.flat().items():
        if name not in fields:
            assert settings[name] == value


@pytest.mark.parametrize("name", FLEETS)
def test_a_fleet_is_devices_alone_and_has_a_line_of_description(name):
    assert FLEETS[name].fields.keys() <= FleetSettings.hints().keys()
    assert FLEETS[name].description and "\n" not in FLEETS[name].description


def _build(settings: Settings) -> Fleet:
    clients = settings.partition.num_clients
    return build_fleet(settings.fleet, clients, settings.make_rng)


def test_stragglers_are_a_fifth_of_the_devices():
    devices = _build(make_settings(fleet="stragglers", num_clients=5000))
    slow = devices.seconds_per_step == 8.0
    assert slow.mean() == pytest.approx(0.2, abs=0.02)
    assert set(devices.seconds_per_step[~slow].tolist()) == {1.0}
    assert np.std(devices.task_law(np.random.default_rng(0), 50)) > 0.1


def test_phones_are_away_most_of_the_time_and_lose_what_they_do():
    devices = _build(make_settings(fleet="mobile", num_clients=2000))
    clients = np.arange(2000)
    hours = np.arange(48) * 3600.0
    there = [devices.availability(clients, np.full(2000, h))[0] for h in hours]
    # 8 of 24 hours, 7200 / 7800 of the time, 28800 / 36000 of the time.
    assert np.mean(there) == pytest.approx(8 / 24 * 12 / 13 * 0.8, abs=0.01)
    assert np.min(np.mean(there, axis=1)) > 0.15  # around the world, somebody is
    assert (devices.when_away, devices.failure_rate) == ("lose", 0.02)
    down, up = devices.transfer_seconds(10**6)
    assert np.median(down) == pytest.approx(0.2 + 1.0, rel=0.1)
    assert np.median(up) == pytest.approx(0.2 + 4.0, rel=0.1)


def test_the_users_fields_come_before_the_fleets_and_these_before_the_presets():
    name = "stragglers"
    assert Settings()["task_law"] == "constant" != make_settings(fleet=name)["task_law"]
    assert make_settings(fleet=name, task_sigma=0.7)["task_sigma"] == 0.7
    assert (
        make_settings(fleet=name, task_law="exponential")["task_law"] == "exponential"
    )
    faster = make_settings("shakespeare", fleet="mobile", seconds_per_step=0.5)
    assert faster["seconds_per_step"] == 0.5
    assert (faster["dataset"], faster["when_away"]) == ("shakespeare", "lose")


def test_an_unknown_fleet_is_one_line():
    with pytest.raises(ValueError) as error:
        make_settings(fleet="cars")
    assert str(error.value) == "fleet must be one of stragglers, mobile, got 'cars'"
