"""Presets: the numbers of the protocol, and settings that may not contradict."""

import pytest

from fedasync_jax.config import Settings
from fedasync_jax.presets import PRESETS, make_settings


def test_the_default_is_digits():
    assert make_settings() == make_settings("digits") == Settings()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_has_a_line_of_description(name):
    assert isinstance(make_settings(name), Settings)
    assert PRESETS[name].description and "\n" not in PRESETS[name].description


def test_cifar10_is_the_protocol():
    settings = make_settings("cifar10-paper")
    assert settings.num_updates * 10 == 20_000  # gradients: 500 / 50 a task
    assert (settings.epochs, settings.batch_size) == (1.0, 50)
    assert settings.proximal_weight * settings.step_size == pytest.approx(0.005)
    assert (settings.alpha, settings.alpha_drop_at, settings.alpha_drop) == (
        0.6,
        800,
        0.5,
    )
    assert (settings.warmup_epochs, settings.warmup_step_size) == (5, 0.01)
    assert (settings.weight_decay, settings.momentum) == (1e-4, 0.0)
    small = make_settings("cifar10-small")
    assert [4 * c for c in small.cnn_channels] == list(settings.cnn_channels)


def test_wikitext2_is_the_protocol():
    settings = make_settings("wikitext2-paper")
    assert settings.proximal_weight * settings.step_size == pytest.approx(1e-4)
    assert (settings.step_size, settings.clip_norm) == (20.0, 0.25)
    assert (settings.plateau_factor, settings.plateau_on) == (0.25, "validation")
    assert (settings.num_updates, settings.lstm_biases) == (4000, 2)
    assert settings.alpha_drop_at is None and settings.weight_decay == 0


def test_the_product_of_step_size_and_rho_takes_the_place_of_the_presets_rho():
    settings = make_settings("cifar10-paper", gamma_rho=0.01, step_size=0.2)
    assert settings.rho is None
    assert settings.proximal_weight == pytest.approx(0.05)
    with pytest.raises(ValueError, match="rho must not be set together with gamma_rho"):
        make_settings("cifar10-paper", gamma_rho=0.01, rho=0.05)


def test_an_unknown_preset_is_one_line():
    with pytest.raises(ValueError, match=r"^preset must be one of digits, .* got 'x'$"):
        make_settings("x")
