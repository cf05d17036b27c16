import dataclasses
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from fedasync_jax.config import METHODS, Settings


def test_defaults_are_valid_and_frozen():
    settings = Settings()
    assert set(settings.methods) <= set(METHODS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.alpha = 0.5  # pyright: ignore[reportAttributeAccessIssue]


def test_every_field_is_documented():
    documented = Settings.__doc__ or ""
    for field in dataclasses.fields(Settings):
        assert f"      {field.name}: " in documented


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
        ("dataset", "cifar100", "one of digits, npz, cifar10"),
        ("partition", "random", "one of iid, shards, dirichlet, quantity-skew"),
        ("model", "resnet", "one of mlp, cnn"),
        ("schedule", "now", "one of immediate, periodic, sampled"),
        ("client_law", "normal", "one of constant, uniform, exponential, log-normal"),
        ("sampling", "sorted", "one of epochs, replacement"),
        ("methods", ("fedasync-hing",), "one of fedasync-constant, "),
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
        Settings(**{field: value})
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
        Settings(**fields)


def test_a_number_that_nobody_reads_is_not_checked_against_the_clients():
    Settings(num_clients=5, schedule="sampled", methods=("fedasync-constant",))


def test_steps_are_drawn_or_follow_from_epochs_but_not_both():
    with pytest.raises(ValueError, match="max_steps must not be set together"):
        Settings(max_steps=9, epochs=1.0)


def test_streams_depend_on_seed_and_purpose_alone():
    def draw(seed, purpose):
        return Settings(seed=seed).make_rng(purpose).random(4)

    assert np.array_equal(draw(1, "fleet"), draw(1, "fleet"))
    assert not np.array_equal(draw(1, "fleet"), draw(1, "schedule"))
    assert not np.array_equal(draw(1, "fleet"), draw(2, "fleet"))
    keys = [
        Settings(seed=seed).make_key(p) for seed in (1, 2) for p in ("init", "tasks")
    ]
    data = {np.asarray(jax.random.key_data(key)).tobytes() for key in keys}
    assert len(data) == 4


def test_json_has_every_field():
    content = Settings(run_dir=Path("x")).to_json()
    assert content["run_dir"] == "x"
    assert set(content) == {field.name for field in dataclasses.fields(Settings)}
