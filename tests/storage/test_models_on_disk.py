"""Models on the disk: what is saved is loaded, here and by the libraries themselves."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

import fedasync_jax as fa
from fedasync_jax.storage.models import read_about

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
    with pytest.raises(ValueError, match=r"model\.safetensors must match its"):
        fa.load_model(tmp_path / "a")


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    "model",
    [
        fa.Variables({"mlp/~/linear_0": {"w": ONE}}),
        fa.Variables({"a/b": ONE, "a": {"b": 2 * ONE}}, {"a": {}}),
        fa.Variables([ONE, (ONE, 3 * ONE)], None),
        fa.Variables({0: ONE, 1: {"__metadata__": ONE}}),
        fa.Variables({"1": ONE, "2": {1: 2 * ONE}}),
        fa.Variables(ONE),
        {"__metadata__": ONE},
        [ONE],
        ONE,
    ],
)
def test_the_tree_that_was_saved_is_loaded(tmp_path, model):
    fa.save_model(tmp_path / "a", model)
    _assert_same(fa.load_model(tmp_path / "a"), model)
    _assert_same(fa.load_model(tmp_path / "a", model), model)


def test_a_model_of_an_older_version_is_loaded(tmp_path):
    fa.save_model(tmp_path / "a", MODEL)
    path = tmp_path / "a" / "model.json"
    about = json.loads(path.read_text())
    old = {name: about[name] for name in ("load_with", "leaves")}
    path.write_text(json.dumps(old))
    _assert_same(fa.load_model(tmp_path / "a"), MODEL)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_no_flipped_bit_passes_for_another_model(tmp_path, name):
    fa.save_model(tmp_path / "a", MODEL, {"accuracy": 0.25})
    path, about = tmp_path / "a" / name, read_about(tmp_path / "a")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            loaded, found = fa.load_model(tmp_path / "a"), read_about(tmp_path / "a")
        except ValueError as error:
            assert "\n" not in str(error) and name in str(error)
            refused += 1
            continue
        _assert_same(loaded, MODEL)  # such as a space that became a tab
        assert found == about
    assert refused > 0.6 * len(whole)


def test_a_file_that_is_no_regular_file_is_refused(tmp_path):
    fa.save_model(tmp_path / "a", MODEL)
    for name in ("model.safetensors", "model.json"):
        (tmp_path / "a" / name).unlink()
        os.mkfifo(tmp_path / "a" / name)
        with pytest.raises(ValueError, match="must be a regular file"):
            fa.load_model(tmp_path / "a")


def test_nothing_is_written_through_a_link(tmp_path):
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".model.json").symlink_to(other)
    with pytest.raises(ValueError, match=r"got .* with \.model\.json"):
        fa.save_model(tmp_path / "a", MODEL)
    assert other.read_text() == "mine"


def test_what_an_interrupted_save_left_is_replaced(tmp_path):
    fa.save_model(tmp_path / "a", MODEL)
    (tmp_path / "a" / "model.json").rename(tmp_path / "a" / ".model.json")
    assert read_about(tmp_path / "a") is None
    fa.save_model(tmp_path / "a", MODEL)
    _assert_same(fa.load_model(tmp_path / "a"), MODEL)
    assert not (tmp_path / "a" / ".model.json").exists()
