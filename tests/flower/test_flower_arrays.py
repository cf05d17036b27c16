import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax.base import Variables
from fedasync_jax.flower.arrays import (
    BadReply,
    RawArray,
    decode,
    encode,
    measure_update,
    scale_update,
)


def make_model(seed=0):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(3, 4)).astype(np.float32), "b": np.float32(2.0)}
    return Variables(params, {"mean": rng.normal(size=5).astype(np.float32)})


def save(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def cause_of(raw, like=None):
    with pytest.raises(BadReply) as caught:
        decode(raw, make_model() if like is None else like)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    return caught.value.cause


def test_a_model_comes_back_bit_for_bit():
    model = jax.tree.map(jnp.asarray, make_model())
    back = decode(encode(model), model)
    assert jax.tree.structure(back) == jax.tree.structure(model)
    for sent, received in zip(*map(jax.tree.leaves, (model, back)), strict=True):
        np.testing.assert_array_equal(sent, received, strict=True)


def test_names_are_paths():
    assert list(encode(make_model())) == ["params/b", "params/w", "state/mean"]


def test_other_types_than_floats_are_not_sent():
    with pytest.raises(ValueError, match="params/n must be a float array"):
        encode(Variables({"n": np.zeros(3, np.int32)}))
    with pytest.raises(ValueError, match="bfloat16"):
        encode(Variables({"n": jnp.zeros(3, jnp.bfloat16)}))


def test_missing_and_strange_names_are_refused():
    raw = encode(make_model())
    rest = {name: array for name, array in raw.items() if name != "params/w"}
    assert cause_of(rest) == "wrong names"
    assert cause_of({**raw, "x" * 10_000: raw["params/w"]}) == "wrong names"
    assert cause_of({}) == "wrong names"


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.zeros((4, 3), np.float32), "wrong shape"),
        (np.zeros((3, 4, 1), np.float32), "wrong shape"),
        (np.zeros((3, 4), np.float16), "wrong dtype"),
        (np.zeros((3, 4), np.int32), "wrong dtype"),
        (np.zeros((3000, 4), np.float32), "too large"),
    ],
)
def test_another_shape_type_or_size_is_refused(array, cause):
    raw = encode(make_model())
    raw["params/w"] = RawArray(str(array.dtype), array.shape, save(array))
    assert cause_of(raw) == cause


GOOD = np.zeros((3, 4), np.float32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"junk" * 30,
        save(GOOD)[:-1],
        save(GOOD) + b"\0",
        save(GOOD.astype(">f4")),
        save(np.zeros((3, 5), np.float32)),
        save(np.asfortranarray(GOOD)),
        save(np.array([{}], dtype=object), allow_pickle=True),
        save(GOOD).replace(b"(3, 4)", b"(9**9)"),
        save(GOOD).replace(b"(3, 4)", b"(3,-4)"),
        b"\x93NUMPY\x01\x00\x40\x01" + b"(" * 320 + b"\0" * 48,
        b"\x93NUMPY\x03\x00" + b"\xff" * 100,
    ],
)
def test_bytes_that_are_not_the_array_they_claim_are_refused(data):
    raw = encode(make_model())
    raw["params/w"] = RawArray("float32", (3, 4), data)
    assert cause_of(raw) == "not decodable"


def test_the_length_is_looked_at_before_anything_is_decoded():
    raw = encode(make_model())
    raw["params/w"] = RawArray("float32", (3, 4), b"\0" * 10_000_000)
    assert cause_of(raw) == "too large"


def test_a_header_that_promises_too_much_takes_no_memory():
    promised = save(GOOD).replace(b"(3, 4), }     ", b"(3, 4000000), }")
    assert promised != save(GOOD)
    raw = encode(make_model())
    raw["params/w"] = RawArray("float32", (3, 4), promised)
    assert cause_of(raw) == "not decodable"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["params", "state"])
def test_what_is_not_finite_is_refused(value, place):
    start, local = make_model(), make_model()
    leaf = jax.tree.leaves(getattr(local, place))[-1]
    leaf.flat[0] = value
    with pytest.raises(BadReply) as caught:
        measure_update(local, start)
    assert caught.value.cause == "not finite"


def test_the_norm_of_an_update_is_that_of_all_arrays_together():
    start = Variables({"a": np.zeros(2), "b": np.zeros((1, 1))}, [np.zeros(1)])
    local = Variables(
        {"a": np.array([2.0, 4.0]), "b": np.array([[5.0]])}, [np.array([6.0])]
    )
    assert measure_update(local, start) == 9.0
    assert measure_update(local, local) == 0.0


def test_a_norm_beyond_all_numbers_is_infinite():
    start = Variables({"a": np.zeros(2)})
    local = Variables({"a": np.array([1e308, 1e308])})
    assert measure_update(local, start) == np.inf


def test_a_shorter_update_points_the_same_way_in_the_same_types():
    start = Variables({"a": np.array([1.0, 2.0], np.float32)})
    local = Variables({"a": np.array([3.0, -2.0], np.float32)})
    short = scale_update(local, start, 0.25)
    wanted = np.array([1.5, 1.0], np.float32)
    np.testing.assert_array_equal(short.params["a"], wanted)
    assert short.params["a"].dtype == np.float32
    assert scale_update(local, start, 1.0) is local
