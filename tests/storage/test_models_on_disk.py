"""Models on the disk: what is saved is loaded, here and by the libraries themselves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

import fedasync_jax as fa

MODEL = fa.Variables(
    {"dense": {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.bfloat16(2.5)}},
    {"mean": jnp.ones(2)},
)


def _assert_same(read, written):
    assert jax.tree.structure(read) == jax.tree.structure(written)
    for a, b in zip(*map(jax.tree.leaves, (read, written)), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, np.asarray(b))


def test_a_model_is_loaded_as_it_was(tmp_path):
    fa.save_model(tmp_path / "a", MODEL)
    _assert_same(fa.load_model(tmp_path / "a"), MODEL)
    _assert_same(
        fa.load_model(tmp_path / "a", jax.tree.map(jnp.zeros_like, MODEL)), MODEL
    )


def test_any_pytree_is_loaded_with_one_like_it(tmp_path):
    model = fa.Variables([{"w": np.ones(2)}, (np.zeros(3), np.asarray(np.float32(1)))])
    fa.save_model(tmp_path / "a", model)
    _assert_same(fa.load_model(tmp_path / "a", model), model)


def test_a_flax_model_gives_the_same_output(tmp_path):
    model = fa.models.from_linen(fa.models.MLP((5,), 3), jnp.ones((1, 4)))
    variables = model.init(jax.random.key(0))
    fa.save_model(tmp_path / "a", variables)
    batch = {"x": jnp.ones((2, 4)), "y": jnp.array([0, 1])}
    loaded = fa.load_model(tmp_path / "a")
    for name, value in model.metrics(variables, batch).items():
        assert float(model.metrics(loaded, batch)[name]) == float(value)


def test_the_libraries_load_what_the_json_names(tmp_path):
    fa.save_model(tmp_path / "a", MODEL, {"method": "FedAsync"})
    about = json.loads((tmp_path / "a" / "model.json").read_text())
    assert about["method"] == "FedAsync"
    assert about["load_with"].keys() == {"fedasync_jax", "safetensors", "orbax"}
    names = {"params/dense/w", "params/dense/b", "state/mean"}
    assert about["leaves"].keys() == names
    assert about["leaves"]["params/dense/b"] == {"shape": [], "dtype": "bfloat16"}
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    with ocp.StandardCheckpointer() as reader:
        arrays = reader.restore(tmp_path / "a" / "orbax")
    for found in (tensors, arrays):
        assert found.keys() == names
        np.testing.assert_array_equal(found["state/mean"], np.ones(2))


def test_a_model_is_replaced(tmp_path):
    fa.save_model(tmp_path / "a", MODEL)
    other = fa.Variables({"v": np.zeros(1)})
    fa.save_model(tmp_path / "a", other)
    _assert_same(fa.load_model(tmp_path / "a"), other)


@pytest.mark.parametrize(
    "like",
    [
        MODEL._replace(state={"mean": jnp.ones(3)}),
        MODEL._replace(state={"var": jnp.ones(2)}),
        MODEL._replace(state=()),
    ],
)
def test_a_model_of_another_shape_is_refused(tmp_path, like):
    fa.save_model(tmp_path / "a", MODEL)
    with pytest.raises(ValueError, match=r"like must have the leaves of .* got params"):
        fa.load_model(tmp_path / "a", like)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), _cut])
def test_half_a_model_is_refused_in_one_line(tmp_path, name, damage):
    fa.save_model(tmp_path / "a", MODEL)
    path = tmp_path / "a" / name
    path.write_bytes(path.read_bytes().rstrip())
    damage(path)
    with pytest.raises(ValueError, match="folder must hold a model") as error:
        fa.load_model(tmp_path / "a")
    assert "\n" not in str(error.value)


def test_two_halves_of_two_models_are_refused(tmp_path):
    fa.save_model(tmp_path / "a", MODEL)
    fa.save_model(tmp_path / "b", fa.Variables({"v": np.zeros(1)}))
    (tmp_path / "b" / "model.json").replace(tmp_path / "a" / "model.json")
    with pytest.raises(ValueError, match=r"must hold the leaves of model\.json"):
        fa.load_model(tmp_path / "a")
