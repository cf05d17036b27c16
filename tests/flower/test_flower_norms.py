"""Bounds on norms follow the norms, and blame what was never usual."""

import numpy as np
import pytest

from fedasync_jax.base import Variables
from fedasync_jax.flower.arrays import BadReply
from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.norms import NormBounds

MODEL = Variables({"w": np.array([3.0, 4.0])})  # of norm 5


def make(norms=(), variables=MODEL, **limits):
    limits = {"clip_norm_ratio": 2.0, "max_norm_ratio": 10.0, **limits}
    bounds = NormBounds(Limits(**limits), variables)
    for norm in norms:
        bounds.note(norm)
    return bounds


def test_an_update_is_shortened_to_a_multiple_of_the_median():
    bounds = make([1.0, 2.0, 3.0, 4.0, 5.0])  # the median is 3
    assert bounds.shorten(6.0) == 1.0
    assert bounds.shorten(12.0) == 0.5
    assert bounds.shorten(0.0) == 1.0


def test_blame_begins_at_a_multiple_of_the_median():
    bounds = make([1.0, 2.0, 3.0, 4.0, 5.0])
    assert bounds.shorten(30.0) == pytest.approx(0.2)
    with pytest.raises(BadReply, match=r"must be <= 30, got 30\.1") as caught:
        bounds.shorten(30.1)
    assert caught.value.cause == "update too large"
    with pytest.raises(BadReply):
        bounds.shorten(np.inf)


def test_what_all_did_once_is_shortened_later_but_not_blamed():
    bounds = make([4.0] * 100 + [0.1] * 200)
    assert bounds.shorten(4.0) == pytest.approx(0.05)
    with pytest.raises(BadReply, match="must be <= 40"):
        bounds.shorten(40.1)


def test_the_median_is_that_of_the_newest_hundred():
    bounds = make([1.0] * 100 + [2.0] * 51)
    assert bounds.shorten(8.0) == 0.5


def test_one_in_three_that_sends_long_updates_does_not_move_the_bound():
    bounds = make()
    for number in range(300):
        norm = 9.0 if number % 3 == 0 else 1.0
        bounds.note(norm * bounds.shorten(norm))
    assert bounds.shorten(9.0) == pytest.approx(2 / 9)


def test_the_first_updates_are_measured_by_the_model():
    bounds = make([0.1] * 4)
    assert bounds.shorten(5.0) == 1.0
    assert bounds.shorten(10.0) == 0.5
    with pytest.raises(BadReply, match="must be <= 50"):
        bounds.shorten(50.1)


def test_a_model_of_zeros_is_measured_by_its_size():
    bounds = make(variables=Variables({"w": np.zeros((3, 3))}))
    assert bounds.shorten(3.0) == 1.0
    assert bounds.shorten(6.0) == 0.5


def test_updates_of_nothing_leave_the_bound_of_the_first():
    bounds = make([0.0] * 20)
    assert bounds.shorten(5.0) == 1.0


def test_a_bound_in_numbers_holds_besides():
    bounds = make([1.0] * 9, max_update_norm=1.5)
    assert bounds.shorten(1.5) == 1.0
    with pytest.raises(BadReply, match=r"must be <= 1\.5"):
        bounds.shorten(1.6)


def test_bounds_begin_anew_with_the_norms_of_the_past():
    bounds = make([7.0] * 50)
    bounds.restore([1.0] * 5)
    assert bounds.shorten(4.0) == 0.5
