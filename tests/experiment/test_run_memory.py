"""What cannot fit in memory is refused by the setting that asks for it."""

import dataclasses

import numpy as np
import pytest

from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.memory import check_store_memory
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.parts.memory import check_fits


@pytest.mark.parametrize(
    ("setting", "value", "shown"),
    [
        ("hidden", (10**9,), "1000000000"),
        ("hidden", (10**7, 10**7), "10000000 10000000"),
        ("batch_size", 2**31 - 1, "2147483647"),
        ("sgd_batch_size", 2**31 - 1, "2147483647"),
    ],
)
def test_a_model_or_a_batch_beyond_memory_is_refused(setting, value, shown):
    settings = make_settings(methods=("fedasync-constant",), **{setting: value})
    with pytest.raises(
        ValueError,
        match=rf"^{setting} must fit into memory, [\d.]+ GB, got {shown}, which needs "
        r"[\d.]+ GB at least$",
    ):
        build_experiment(settings)


def test_the_start_models_are_counted_as_the_schedule_has_them():
    settings = make_settings(
        methods=("fedasync-constant",), num_updates=10, concurrency=3
    )
    built = build_experiment(settings)
    check_store_memory(settings, built.workload, built.methods)
    method = built.methods[0]
    many = method._replace(trace=dataclasses.replace(method.trace, num_slots=2**40))
    with pytest.raises(ValueError, match=r"^concurrency must fit .*, got 3, which "):
        check_store_memory(settings, built.workload, [many])


def test_what_fits_exactly_is_not_refused():
    check_fits("num_updates", 5, 100, present=100)
    with pytest.raises(
        ValueError,
        match=r"^num_updates must fit into memory, 1\.0 GB, got 5, which needs 2\.0 GB",
    ):
        check_fits("num_updates", 5, 2 * 10**9, present=10**9)


def test_settings_of_numpy_are_written_as_plain_json():
    settings = make_settings(
        hidden=np.array([8, 4]), alpha=np.float32(0.5), seed=np.int64(3)
    )
    assert settings.to_json()["hidden"] == (8, 4)
    assert [type(settings[name]) for name in ("alpha", "seed")] == [float, int]
