"""Bounds on norms follow the norms, and blame what was never usual."""

import numpy as np
import pytest

from fedasync_jax.base import Variables
from fedasync_jax.flower.arrays import BadReply
from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.norms import NormBounds

MODEL = Variables({"w": np.array([3.0, 4.0])})  # of norm 5
NODE, OTHERS = 0, 1


def make(norms=(), variables=MODEL, **limits):
    limits = {"clip_norm_ratio": 2.0, "max_norm_ratio": 10.0, **limits}
    bounds = NormBounds(Limits(**limits), variables)
    for norm in norms:
        bounds.note(norm, OTHERS)
    return bounds


def test_an_update_is_shortened_to_a_multiple_of_the_median():
    bounds = make([1.0, 2.0, 3.0, 4.0, 5.0])  # the median is 3
    assert bounds.shorten(6.0, NODE) == 1.0
    assert bounds.shorten(12.0, NODE) == 0.5
    assert bounds.shorten(0.0, NODE) == 1.0


def test_blame_begins_at_a_multiple_of_the_median():
    bounds = make([1.0, 2.0, 3.0, 4.0, 5.0])
    assert bounds.shorten(30.0, NODE) == pytest.approx(0.2)
    with pytest.raises(BadReply, match=r"must be <= 30, got 30\.1") as caught:
        bounds.shorten(30.1, NODE)
    assert caught.value.cause == "update too large"
    with pytest.raises(BadReply):
        bounds.shorten(np.inf, NODE)


def test_what_all_did_once_is_shortened_later_but_not_blamed():
    bounds = make([4.0] * 100 + [0.1] * 200)
    assert bounds.shorten(4.0, NODE) == pytest.approx(0.05)
    with pytest.raises(BadReply, match="must be <= 40"):
        bounds.shorten(40.1, NODE)


def test_the_median_is_that_of_the_newest_hundred():
    bounds = make([1.0] * 100 + [2.0] * 51)
    assert bounds.shorten(8.0, NODE) == 0.5


def test_one_in_three_that_sends_long_updates_does_not_move_the_bound():
    bounds = make()
    for number in range(300):
        is_long = number % 3 == 0
        bounds.note(9.0 if is_long else 1.0, NODE if is_long else OTHERS)
    assert bounds.shorten(9.0, 3) == pytest.approx(2 / 9)


def test_the_first_updates_are_measured_by_the_model():
    bounds = make([0.1] * 4)
    assert bounds.shorten(5.0, NODE) == 1.0
    assert bounds.shorten(10.0, NODE) == 0.5
    with pytest.raises(BadReply, match="must be <= 50"):
        bounds.shorten(50.1, NODE)


def test_a_model_of_zeros_is_measured_by_its_size():
    bounds = make(variables=Variables({"w": np.zeros((3, 3))}))
    assert bounds.shorten(3.0, NODE) == 1.0
    assert bounds.shorten(6.0, NODE) == 0.5


def test_updates_of_nothing_leave_the_bound_of_the_first():
    bounds = make([0.0] * 20)
    assert bounds.shorten(5.0, NODE) == 1.0


def test_a_bound_in_numbers_holds_besides():
    bounds = make([1.0] * 9, max_update_norm=1.5)
    assert bounds.shorten(1.5, NODE) == 1.0
    with pytest.raises(BadReply, match=r"must be <= 1\.5"):
        bounds.shorten(1.6, NODE)


def test_each_long_update_of_a_node_halves_what_it_is_allowed():
    bounds = make([1.0] * 50)
    factors = []
    for _ in range(6):
        factors.append(bounds.shorten(8.0, NODE))
        bounds.note(8.0, NODE)
    assert factors == [1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 64]
    assert bounds.shorten(8.0, OTHERS) == 1 / 4
    assert bounds.shorten(0.5, NODE) == 1 / 4  # 2 / 16 is allowed, long or not


def test_each_update_that_is_short_enough_doubles_it_again():
    bounds = make([1.0] * 50)
    for norm in (8.0, 8.0, 2.0):
        bounds.note(norm, NODE)
    assert bounds.shorten(2.0, NODE) == 1 / 2
    bounds.note(2.0, NODE)
    assert bounds.shorten(2.0, NODE) == 1.0
    bounds.note(2.0, NODE)  # and no more than that
    assert bounds.shorten(4.0, NODE) == 1 / 2


def test_an_update_below_two_medians_is_shortened_but_not_long():
    bounds = make([1.0] * 50, clip_norm_ratio=1.0)
    for norm in (2.0, 2.0, 2.0):
        bounds.note(norm, NODE)
    assert bounds.shorten(2.0, NODE) == 1 / 2
    bounds.note(2.1, NODE)
    assert bounds.shorten(2.0, NODE) == 1 / 4


def test_nobody_is_judged_before_there_is_a_median():
    bounds = make([20.0] * 4)
    bounds.note(20.0, NODE)
    assert bounds.shorten(10.0, NODE) == 1.0  # twice the median of 5


def test_bounds_begin_anew_with_the_norms_of_the_past():
    bounds = make([7.0] * 50)
    bounds.restore([(1.0, OTHERS)] * 5 + [(4.0, NODE)])
    assert bounds.shorten(4.0, OTHERS) == 0.5
    assert bounds.shorten(4.0, NODE) == 0.25
