"""Central training: a plain loop, which goes on where it was stopped."""

import jax
import numpy as np
import pytest

from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.storage.models import load_model
from reproduction.central import (
    count_epochs,
    read_central,
    train_centrally,
)

SETTINGS = make_settings(hidden=(16,), batch_size=20, step_size=0.2, weight_decay=1e-3)


def _train(folder, epochs, **others):
    return train_centrally(SETTINGS, epochs, folder, **others)


def test_it_learns(tmp_path):
    record = _train(tmp_path, 6)
    assert record is not None and len(record["accuracy"]) == 6
    assert record["accuracy"][-1] > 0.85 and record["seconds"] > 0
    assert read_central(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-6"]


def test_stopped_and_gone_on_with_bit_for_bit(tmp_path):
    assert read_central(tmp_path / "none") is None
    stopped = _train(tmp_path / "a", 4, should_stop=lambda: True)
    assert stopped is not None and len(stopped["accuracy"]) == 1
    first, whole = _train(tmp_path / "a", 4), _train(tmp_path / "b", 4)
    assert first is not None and whole is not None
    assert first["accuracy"] == whole["accuracy"]
    models = [load_model(tmp_path / name / "epoch-4") for name in "ab"]
    for one, other in zip(*map(jax.tree.leaves, models), strict=True):
        np.testing.assert_array_equal(one, other)
    assert _train(tmp_path / "a", 3) == first  # nothing to do


def test_a_model_that_was_not_written_to_its_end_does_not_count(tmp_path):
    _train(tmp_path, 1)
    (tmp_path / "epoch-2").mkdir()
    record = _train(tmp_path, 2)
    assert record is not None and len(record["accuracy"]) == 2


@pytest.mark.parametrize(
    ("epochs", "updates", "expected"), [(1.0, 2000, 20), (None, 1000, 10), (2.0, 50, 1)]
)
def test_as_many_epochs_as_the_runs_see(epochs, updates, expected):
    settings = SETTINGS.replace(epochs=epochs, num_updates=updates)
    assert count_epochs(settings) == expected
