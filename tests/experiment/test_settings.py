"""Settings: what is allowed, in one line; streams that depend on the seed alone."""

import dataclasses
import json
import math
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from fedasync_jax.cli.flags import explain
from fedasync_jax.experiment.method_names import METHODS
from fedasync_jax.experiment.presets import from_json, make_settings
from fedasync_jax.experiment.settings import PARTS, Settings, name_parts
from fedasync_jax.parts.bounds import find_allowed


def test_defaults_are_valid_and_frozen():
    settings = Settings()
    names = {line.partition(":")[0] for line in settings["methods"]}
    assert names <= set(METHODS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.mixing.alpha = 0.5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("part", PARTS)
def test_every_setting_is_explained_beside_its_part(part):
    for name in PARTS[part].hints():
        assert len(explain(PARTS[part], name)) > 20, name


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("alpha", 0.0, r"in \(0, 1\]"),
        ("alpha", 1.5, r"in \(0, 1\]"),
        ("alpha", math.nan, r"in \(0, 1\]"),
        ("rho", -0.1, "finite and >= 0"),
        ("rho", math.inf, "finite and >= 0"),
        ("hinge_a", 0.0, "finite and > 0"),
        ("hinge_b", -1.0, "finite and >= 0"),
        ("polynomial_a", -0.5, "finite and >= 0"),
        ("step_size", 0.0, "finite and > 0"),
        ("momentum", 1.0, r"in \[0, 1\)"),
        ("num_updates", 0, "finite and >= 1"),
        ("eval_every", 0, "finite and >= 1"),
        ("seed", -1, r"in \[0, 4294967295\]"),
        ("num_clients", 0, "finite and >= 1"),
        ("num_steps", 0, "finite and >= 1"),
        ("max_steps", 4, "finite and >= 5"),
        ("epochs", 0.0, "finite and > 0"),
        ("batch_size", 0, "finite and >= 1"),
        ("hidden", (64, 0), "finite and >= 1"),
        ("concentration", 0.0, "finite and > 0"),
        ("interval", 0.0, "finite and > 0"),
        ("max_staleness", 0, "finite and >= 1"),
        ("client_sigma", -1.0, "finite and >= 0"),
        ("client_range", (0.0, 1.0), "0 < low <= high < inf"),
        ("task_range", (2.0, 1.0), "0 < low <= high < inf"),
        ("dataset", "cifar100", "one of digits, npz, table, leaf, cifar10"),
        ("partition", "random", "one of iid, shards, dirichlet, quantity-skew"),
        ("model", "resnet", "one of mlp, cnn"),
        ("schedule", "now", "one of immediate, periodic, sampled"),
        ("client_law", "normal", "one of constant, uniform, exponential, log-normal"),
        ("sampling", "sorted", "one of epochs, replacement"),
        ("over_selection", -0.1, "finite and >= 0"),
        ("over_selection", math.inf, "finite and >= 0"),
        ("round_deadline", 0.0, "finite and > 0"),
        ("round_deadline", math.inf, "finite and > 0"),
        ("time_out", 0.0, "finite and > 0"),
        ("time_out", math.nan, "finite and > 0"),
        ("client_choice", "fair", "one of uniform, data-size"),
        ("max_tasks_per_client", 0, "finite and >= 1"),
        ("seconds_per_step", 0.0, "finite and > 0"),
        ("client_shape", 0.0, "finite and > 0"),
        ("task_sigma", -0.1, "finite and >= 0"),
        ("task_shape", -1.0, "finite and > 0"),
        ("network_sigma", math.nan, "finite and >= 0"),
        ("network_shape", math.inf, "finite and > 0"),
        ("network_range", (1.0, math.inf), "0 < low <= high < inf"),
        ("network_range", (math.nan, 1.0), "0 < low <= high < inf"),
        ("task_law", "cauchy", "one of constant, uniform, exponential, log-normal, "),
        ("network_law", "", "one of constant, uniform, exponential, log-normal, pare"),
        ("tier_shares", (0.0,), "> 0 and sum to 1 at most"),
        ("tier_shares", (0.7, 0.4), "> 0 and sum to 1 at most"),
        ("tier_shares", (math.nan,), "> 0 and sum to 1 at most"),
        ("tier_factors", (0.0,), r"1 numbers \(one per share\), finite and > 0"),
        ("tier_factors", (math.inf,), "finite in float32"),
        ("tier_factors", (2.0, 3.0), r"1 numbers \(one per share\), finite and > 0"),
        ("tier_factors", (), r"1 numbers \(one per share\), finite and > 0"),
        ("downlink", 0.0, "finite and > 0"),
        ("downlink", math.inf, "finite and > 0"),
        ("uplink", -1.0, "finite and > 0"),
        ("latency", -0.5, "finite and >= 0"),
        ("latency", math.inf, "finite and >= 0"),
        ("availability", "never", "one of always, on-off, daily, idle-charging-unme"),
        ("mean_on", 0.0, "finite and > 0"),
        ("mean_off", math.inf, "finite and > 0"),
        ("charging_from", 24.0, r"in \[0, 24\)"),
        ("charging_from", -1.0, r"in \[0, 24\)"),
        ("charging_hours", 0.0, r"in \(0, 24\]"),
        ("charging_hours", 24.5, r"in \(0, 24\]"),
        ("time_zones", 0, "finite and >= 1"),
        ("unmetered_on", -1.0, "finite and > 0"),
        ("unmetered_off", 0.0, "finite and > 0"),
        ("when_away", "wait", "one of pause, lose"),
        ("failure_rate", 1.0, r"in \[0, 1\)"),
        ("failure_rate", -0.1, r"in \[0, 1\)"),
        ("time_budget", 0.0, "finite and > 0"),
        ("samples_per_client", 0, "finite and >= 1"),
        ("size_sigma", -1.0, "finite and >= 0"),
        ("size_exponent", -1.0, "finite and >= 0"),
        ("feature_skew", 1.5, r"in \[0, 1\]"),
        ("methods", ("fedasync-hing",), "rules or baselines"),
        ("methods", ("zzz",), "one of fedasync-constant, "),
        ("methods", ("no_module.rule",), "rules, baselines or import paths"),
        ("methods", (), "one or more different names"),
        ("methods", ("sgd", "sgd"), "one or more different names"),
    ],
)
def test_a_bad_value_is_one_line_with_field_value_and_what_is_allowed(
    field, value, allowed
):
    with pytest.raises(
        ValueError, match=f"^{field} must be {allowed}.*, got "
    ) as error:
        make_settings(**{field: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"concurrency": 101},
        {"schedule": "periodic", "num_triggered": 101},
        {"clients_per_round": 101},
    ],
)
def test_more_workers_than_clients_are_refused(fields):
    name = list(fields)[-1]
    with pytest.raises(
        ValueError, match=rf"{name} must be in \[1, 100\] \(the number of clients\)"
    ):
        make_settings(**fields)


def test_a_number_that_nobody_reads_is_not_checked_against_the_clients():
    make_settings(num_clients=5, schedule="sampled", methods=("fedasync-constant",))


def test_steps_are_drawn_or_follow_from_epochs_but_not_both():
    with pytest.raises(ValueError, match="max_steps must not be set together"):
        make_settings(max_steps=9, epochs=1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"availability": "replay"},
            "availability_path must be a file for availability replay and is not used "
            "otherwise, got None for replay",
        ),
        (
            {"availability_path": Path("w.csv")},
            "availability_path must be a file for availability replay and is not used "
            "otherwise, got w.csv for always",
        ),
        (
            {"plateau_applies": "at-once"},
            "plateau_applies must be by-version for any schedule but sampled, as a "
            "worker receives the step size with the newest model, got at-once for "
            "schedule immediate",
        ),
        (
            {"time_budget": 9.0},
            "time_budget must be set together with max_steps and any schedule but "
            "sampled, got 9.0 with max_steps None, schedule immediate",
        ),
        (
            {"time_budget": 9.0, "max_steps": 8, "schedule": "sampled"},
            "time_budget must be set together with max_steps and any schedule but "
            "sampled, got 9.0 with max_steps 8, schedule sampled",
        ),
        (
            {"time_budget": 9.0, "epochs": 1.0},
            "time_budget must be set together with max_steps and any schedule but "
            "sampled, got 9.0 with max_steps None, schedule immediate",
        ),
        (
            {"client_choice": "data-size", "schedule": "sampled"},
            "client_choice must be uniform for schedule sampled, which draws clients "
            "uniformly with replacement, got data-size",
        ),
        (
            {"max_tasks_per_client": 3, "schedule": "sampled"},
            "max_tasks_per_client must be None for schedule sampled, which draws "
            "clients uniformly with replacement, got 3",
        ),
        (
            {"failure_rate": 0.02, "schedule": "sampled"},
            "failure_rate must be 0.0 for schedule sampled, which has no clock and "
            "loses no task of FedAsync, got 0.02 (schedule immediate has one)",
        ),
        (
            {"time_out": 60.0, "schedule": "sampled"},
            "time_out must be None for schedule sampled, which has no clock and loses "
            "no task of FedAsync, got 60.0 (schedule immediate has one)",
        ),
        (
            {"fleet": "mobile", "schedule": "sampled"},
            "availability must be always for schedule sampled, which has no clock and "
            "loses no task of FedAsync, got idle-charging-unmetered (schedule "
            "immediate has one)",
        ),
        (
            {"client_choice": "data-size", "fedavg_weights": "samples"},
            "fedavg_weights must be equal for client_choice data-size, where a client "
            "of n samples would count by n squared, got samples",
        ),
        (
            {"client_choice": "data-size", "methods": ("fedprox:weights=samples",)},
            "fedavg_weights must be equal for client_choice data-size, where a client "
            "of n samples would count by n squared, got samples",
        ),
        (
            {"tier_shares": (0.2, 0.3)},
            "tier_factors must be 2 numbers (one per share), finite and > 0, got 8.0",
        ),
        (
            {"tier_shares": (), "tier_factors": (2.0,)},
            "tier_factors must be 0 numbers (one per share), finite and > 0, got 2.0",
        ),
        (
            {"tier_shares": (0.5, 0.75), "tier_factors": (2.0, 3.0)},
            "tier_shares must be > 0 and sum to 1 at most, got 0.5 0.75",
        ),
        (
            {"network_range": (2.0, 1.0)},
            "network_range must be 0 < low <= high < inf, got 2.0 1.0",
        ),
    ],
)
def test_what_does_not_fit_together_is_one_line(fields, message):
    with pytest.raises(ValueError) as error:
        make_settings(**fields)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "fields",
    [
        {"availability": "replay", "availability_path": Path("w.csv")},
        {"time_budget": 9.0, "max_steps": 8},
        {"time_budget": 9.0, "max_steps": 8, "schedule": "periodic"},
        {"client_choice": "data-size", "max_tasks_per_client": 1},
        {
            "client_choice": "data-size",
            "fedavg_weights": "samples",  # of nobody here
            "methods": ("delta", "sgd", "fedavg:weights=equal"),
        },
        {"failure_rate": 0.02, "time_out": 60.0, "availability": "on-off"},
        {"tier_shares": (0.5, 0.5), "tier_factors": (2.0, 0.1)},
        {"tier_shares": (), "tier_factors": ()},
        {"client_range": (1.0, 1.0)},
        {"downlink": 1e-3, "latency": 0.0, "failure_rate": 0.0, "over_selection": 0.0},
        {"charging_from": 0.0, "charging_hours": 24.0, "time_zones": 24},
    ],
)
def test_what_fits_together_is_allowed(fields):
    settings = make_settings(**fields)
    assert {name: settings[name] for name in fields} == fields


def test_every_number_and_name_of_a_setting_is_checked():
    """A new setting that is a number or a name must say what is allowed."""
    elsewhere = {"max_steps"}
    for part, record in PARTS.items():
        for name, hint in record.hints().items():
            if re.search(r"\b(int|float|str)\b", str(hint)) and name not in elsewhere:
                assert list(find_allowed(hint)), f"{part}: {name}"


def test_every_setting_is_of_one_part_and_has_a_name_of_its_own():
    names = name_parts()  # raises ValueError if two parts have one of a name
    assert names == {n: p for p, record in PARTS.items() for n in record.hints()}
    assert list(Settings().flat()) == list(names)


def test_an_unknown_setting_is_one_line():
    with pytest.raises(ValueError, match=r"^settings must be known names, got alhpa$"):
        make_settings(alhpa=0.5)


def test_streams_depend_on_seed_and_purpose_alone():
    def draw(seed, purpose):
        return make_settings(seed=seed).make_rng(purpose).random(4)

    assert np.array_equal(draw(1, "fleet"), draw(1, "fleet"))
    assert not np.array_equal(draw(1, "fleet"), draw(1, "schedule"))
    assert not np.array_equal(draw(1, "fleet"), draw(2, "fleet"))
    keys = [
        make_settings(seed=seed).make_key(p)
        for seed in (1, 2)
        for p in ("init", "tasks")
    ]
    data = {np.asarray(jax.random.key_data(key)).tobytes() for key in keys}
    assert len(data) == 4


def test_json_has_every_field():
    content = make_settings(run_dir=Path("x"), speeds_path=Path("y.csv")).to_json()
    assert content["run_dir"] == "x" and content["speeds_path"] == "y.csv"
    assert set(content) == set(name_parts())
    assert from_json(json.loads(json.dumps(content))).to_json() == content
