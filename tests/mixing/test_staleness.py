"""Staleness functions: golden values, their laws, and the mistakes of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax.mixing.staleness import (
    STALENESS_FNS,
    constant,
    exponential,
    hinge,
    linear,
    polynomial,
)

_REPEATABLE = settings(deadline=None, derandomize=True)

_GOLDEN = [
    (constant(), {0: 1, 1: 1, 15: 1, 2500: 1}),
    (
        polynomial(0.5),
        {0: 1, 1: 0.70710678, 3: 0.5, 5: 0.40824829, 8: 1 / 3, 15: 0.25},
    ),
    (polynomial(0), {0: 1, 15: 1}),
    (
        hinge(10, 4),
        dict.fromkeys(range(5), 1) | {5: 1 / 11, 6: 1 / 21, 8: 1 / 41, 15: 1 / 111},
    ),
    (hinge(4, 4), {4: 1, 5: 1 / 5, 15: 1 / 45}),
    (hinge(10, 2), {2: 1, 3: 1 / 11}),
    (exponential(0.3), {0: 1, 1: 0.74081822, 10: 0.04978707}),
    (linear(10), {0: 1, 1: 1 / 11, 2: 1 / 21}),
]

# Every function with parameters so small that float32 holds its smallest value.
_FUNCTIONS = st.one_of(
    st.builds(constant),
    st.builds(polynomial, st.floats(0, 5)),
    st.builds(hinge, st.floats(1e-3, 100), st.floats(0, 100)),
    st.builds(exponential, st.floats(0, 0.02)),
    st.builds(linear, st.floats(0, 100)),
)


@pytest.mark.parametrize(("staleness_fn", "values"), _GOLDEN)
def test_golden_values_of_numbers(staleness_fn, values):
    for staleness, weight in values.items():
        for number in (staleness, float(staleness), np.int32(staleness)):
            assert np.shape(staleness_fn(number)) == ()
            assert float(staleness_fn(number)) == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize("wrap", [np.array, jnp.array, jax.jit])
@pytest.mark.parametrize(("staleness_fn", "values"), _GOLDEN)
def test_golden_values_of_arrays_keep_the_shape(staleness_fn, values, wrap):
    staleness = np.array([[*values], [*values]])
    if wrap is jax.jit:
        weights = jax.jit(staleness_fn)(staleness)
    else:
        weights = staleness_fn(wrap(staleness))
    assert weights.shape == staleness.shape
    assert jnp.issubdtype(weights.dtype, jnp.floating)
    np.testing.assert_allclose(weights, [[*values.values()]] * 2, rtol=1e-6)


@_REPEATABLE
@given(_FUNCTIONS)
def test_starts_at_one_and_never_rises(staleness_fn):
    weights = np.asarray(staleness_fn(np.arange(3000)))
    assert weights[0] == 1
    assert (np.diff(weights) <= 0).all()
    assert (weights > 0).all()
    assert (weights <= 1).all()


@_REPEATABLE
@given(st.floats(0.01, 100), st.integers(0, 100))
def test_linear_is_hinge_without_a_flat_part(a, staleness):
    assert float(linear(a)(staleness)) == float(hinge(a, 0)(staleness))


@_REPEATABLE
@given(st.floats(0.01, 100), st.integers(0, 50))
def test_hinge_is_constant_exactly_up_to_its_bend(a, b):
    weights = np.asarray(hinge(a, b)(np.arange(60)))
    assert (weights[: b + 1] == 1).all()
    assert (weights[b + 1 :] < 1).all()


@pytest.mark.parametrize("a", [0.5, 4.0, 10.0])
def test_hinge_is_not_one_of_the_wrong_hinges(a):
    """FedLab and fedhf; FLGo; AFL-Lib: right up to the bend, wrong beyond."""
    b = 4.0
    for staleness in (5, 6, 8, 15):
        right = 1 / (a * (staleness - b) + 1)
        fedlab = 1 / (a * ((staleness - b) + 1))
        flgo = 1 / (a * (staleness - b))
        afl_lib = 1 / (a * (staleness + b) + 1)
        ours = float(hinge(a, b)(staleness))
        assert ours == pytest.approx(right, rel=1e-6)
        for wrong in (flgo, afl_lib, *((fedlab,) if a != 1 else ())):
            assert abs(ours - wrong) > 1e-3 * wrong


def test_wrong_hinges_show_their_mistakes():
    """FedLab's 0.05 where 1/11 is right, FLGo's weights above one."""
    assert 1 / (10 * ((5 - 4) + 1)) == 0.05
    assert float(hinge(10, 4)(5)) == pytest.approx(1 / 11)
    assert 1 / (0.5 * (5 - 4)) > 1
    assert float(hinge(0.5, 4)(5)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("make", "field", "allowed"),
    [
        (lambda a: polynomial(a), "polynomial: a", ">= 0"),
        (lambda a: hinge(a, 4), "hinge: a", "> 0"),
        (lambda b: hinge(10, b), "hinge: b", ">= 0"),
        (lambda a: exponential(a), "exponential: a", ">= 0"),
        (lambda a: linear(a), "linear: a", ">= 0"),
    ],
)
@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf")])
def test_errors_name_field_value_and_range_in_one_line(make, field, allowed, value):
    with pytest.raises(ValueError) as error:
        make(value)
    assert str(error.value) == f"{field} must be finite and {allowed}, got {value}"


def test_hinge_without_slope_is_an_error():
    with pytest.raises(ValueError, match=r"^hinge: a must be .* > 0, got 0$"):
        hinge(0, 4)


def test_registry_has_every_function_by_name():
    assert set(STALENESS_FNS) == {
        "constant",
        "polynomial",
        "hinge",
        "exponential",
        "linear",
    }
    for name, make in STALENESS_FNS.items():
        assert make.__name__ == name
