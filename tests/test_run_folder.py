import json

import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax import Variables, run_folder

MODEL = Variables(
    {"dense": {"w": jnp.arange(6.0).reshape(2, 3)}}, {"mean": jnp.ones(2)}
)


def make_folder(tmp_path):
    return run_folder.RunFolder(tmp_path / "runs" / "a", {"settings": {"alpha": 0.6}})


def test_a_folder_that_exists_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(
        ValueError, match="run_dir must be a folder that does not exist"
    ):
        run_folder.RunFolder(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="run_dir must be a folder that can be made"):
        run_folder.RunFolder(tmp_path / "file" / "run", {})


def test_config_and_metrics_are_read_back(tmp_path):
    folder = make_folder(tmp_path)
    rows = [{"method": "SGD", "version": v, "test_accuracy": v / 10} for v in range(3)]
    for row in rows:
        folder.add_metrics(row)
    assert json.loads((folder.path / "config.json").read_text()) == {
        "settings": {"alpha": 0.6}
    }
    assert run_folder.read_metrics(folder.path) == {"SGD": rows}


def test_model_and_updates_are_read_back_exactly(tmp_path):
    folder = make_folder(tmp_path)
    updates = {
        "staleness": np.arange(4),
        "alpha": np.full(4, 0.5),
        "applied": np.array([True, False, True, True]),
    }
    folder.write_method("FedAsync hinge(10, 4)", updates, MODEL)
    read = run_folder.read_updates(folder.path, "FedAsync hinge(10, 4)")
    assert read is not None
    for name, array in updates.items():
        np.testing.assert_array_equal(read[name], array)
    like = Variables({"dense": {"w": jnp.zeros((2, 3))}}, {"mean": jnp.zeros(2)})
    model = run_folder.read_model(folder.path, "FedAsync hinge(10, 4)", like)
    np.testing.assert_array_equal(
        model.params["dense"]["w"], MODEL.params["dense"]["w"]
    )
    np.testing.assert_array_equal(model.state["mean"], MODEL.state["mean"])


@pytest.mark.parametrize(
    "like",
    [
        Variables({"dense": {"w": jnp.zeros((2, 4))}}, {"mean": jnp.zeros(2)}),
        Variables({"dense": {"v": jnp.zeros((2, 3))}}, {"mean": jnp.zeros(2)}),
        Variables({"dense": {"w": jnp.zeros((2, 3))}}),
    ],
)
def test_a_model_of_another_shape_is_refused(tmp_path, like):
    folder = make_folder(tmp_path)
    folder.write_method("SGD", {}, MODEL)
    with pytest.raises(ValueError, match="like must have the leaves"):
        run_folder.read_model(folder.path, "SGD", like)


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="run_dir must hold the model of 'SGD'"):
        run_folder.read_model(tmp_path, "SGD", MODEL)
