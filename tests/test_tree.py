"""Pytree verbs: dtypes, exact ends, dropped rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax import tree


def _model(*values, dtype=jnp.float32):
    return {"w": jnp.array(values, dtype), "b": (jnp.array(values[0], dtype),)}


def test_lerp_is_the_weighted_mean():
    mixed = tree.lerp(_model(0.0, 8.0), _model(4.0, 4.0), 0.25)
    np.testing.assert_array_equal(mixed["w"], [1.0, 7.0])
    assert float(mixed["b"][0]) == 1.0


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_lerp_is_exact_at_its_ends_and_keeps_the_dtype(dtype):
    values = np.random.default_rng(0).normal(size=(2, 50))
    start, end = (_model(*row, dtype=dtype) for row in values)
    for weight, expected in ((0.0, start), (jnp.float32(1), end)):
        mixed = tree.lerp(start, end, weight)
        assert mixed["w"].dtype == dtype
        np.testing.assert_array_equal(mixed["w"], expected["w"])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_lerp_of_narrow_floats_is_rounded_once(dtype):
    values = np.random.default_rng(0).normal(size=(2, 50))
    start, end = (_model(*row, dtype=dtype) for row in values)
    mixed = tree.lerp(start, end, jnp.float32(0.3))
    wide = 0.7 * np.float32(start["w"]) + 0.3 * np.float32(end["w"])
    expected = jnp.asarray(wide, jnp.float32).astype(dtype)
    np.testing.assert_array_equal(mixed["w"], expected)


def test_sub_add_scaled_where():
    left, right = _model(5.0, 6.0), _model(1.0, 2.0)
    np.testing.assert_array_equal(tree.sub(left, right)["w"], [4, 4])
    np.testing.assert_array_equal(tree.add_scaled(left, 0.5, right)["w"], [5.5, 7])
    for condition, expected in ((True, left), (jnp.array(False), right)):
        chosen = tree.where(condition, left, right)
        np.testing.assert_array_equal(chosen["w"], expected["w"])


def test_where_does_not_let_a_nan_through():
    chosen = tree.where(jnp.array(False), _model(float("nan")), _model(1.0))
    assert bool(tree.all_finite(chosen))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite_sees_one_bad_number_in_any_leaf(bad):
    assert bool(tree.all_finite(_model(1.0, 2.0)))
    assert not bool(tree.all_finite(_model(1.0, bad)))
    assert not bool(tree.all_finite({"ok": jnp.ones(3), "bad": jnp.array(bad)}))


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32", "float8_e5m2"])
def test_all_finite_lets_the_largest_numbers_pass(name):
    largest = jnp.finfo(name).max
    rows = jnp.full((3, 40, 7), largest, name).at[0].multiply(-1).at[2, 39, 6].set(0)
    assert bool(tree.all_finite(rows))
    one_bad = rows.at[1, 20, 3].set(jnp.asarray(jnp.nan, name))
    assert jax.vmap(tree.all_finite)(one_bad).tolist() == [True, False, True]


def test_norm_is_over_all_leaves():
    assert float(tree.norm({"a": jnp.array([3.0, 0.0]), "b": jnp.float32(-4)})) == 5
    assert float(tree.norm(())) == 0
    assert float(tree.norm([jnp.full(4, 100, jnp.bfloat16)])) == 200


def test_all_finite_of_nothing():
    assert bool(tree.all_finite(()))


def test_take_and_put_rows():
    store = {"w": jnp.arange(6.0).reshape(3, 2)}
    taken = tree.take(store, jnp.array([2, 0]))
    np.testing.assert_array_equal(taken["w"], [[4, 5], [0, 1]])
    rows = {"w": jnp.full((2, 2), -1.0)}
    changed = tree.put(store, jnp.array([1, 3]), rows)  # row 3 is past the end
    np.testing.assert_array_equal(changed["w"], [[0, 1], [-1, -1], [4, 5]])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_changes_of_narrow_floats_are_kept_in_float32(dtype):
    values = np.random.default_rng(0).normal(size=(2, 50))
    left, right = (_model(*row, dtype=dtype) for row in values)
    change = tree.sub(left, right)
    np.testing.assert_array_equal(
        change["w"], np.float32(left["w"]) - np.float32(right["w"])
    )
    moved = tree.add_scaled(left, 0.3, change)
    expected = np.float32(left["w"]) + np.float32(0.3) * change["w"]
    np.testing.assert_array_equal(moved["w"], expected.astype(dtype))
    assert tree.zeros(left)["w"].dtype == tree.widen(left)["w"].dtype == jnp.float32


def test_leaves_that_are_no_floats_are_split_off_and_filled_in():
    whole = {"w": jnp.ones(2), "n": jnp.int32(3), "k": (jnp.asarray(True), None)}
    floats, others = tree.split_floats(whole)
    assert floats["n"] is None and others["w"] is None
    assert jax.tree.leaves(others) == [True, 3]
    for part in (floats, others):
        filled = tree.fill(part, whole)
        assert jax.tree.structure(filled) == jax.tree.structure(whole)
    changed = tree.fill({"w": None, "n": jnp.int32(4), "k": (None, None)}, whole)
    assert int(changed["n"]) == 4 and changed["w"] is whole["w"]
    assert bool(tree.all_finite({"n": jnp.int32(1), "key": jax.random.key(0)}))


def test_functions_are_split_from_the_arrays_that_they_declare():
    def plain(x):
        return x

    pair = (plain, jax.tree_util.Partial(jnp.add, jnp.ones(2)))
    functions, arrays = tree.split_arrays(pair)
    assert len(arrays) == 1 and hash(functions) == hash(tree.split_arrays(pair)[0])
    assert functions == tree.split_arrays(pair)[0]
    kept, added = functions.join([jnp.full(2, 5.0)])
    assert kept is plain
    np.testing.assert_array_equal(added(jnp.ones(2)), [6, 6])
