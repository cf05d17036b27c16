"""Models as named arrays on a network, and the checks of those that come in.

Nothing that came in is believed: names, types and shapes are compared with those of the
model, lengths before anything is decoded, and values after that.
Nothing is unpickled.
"""

import io
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from fedasync_jax.base import Variables
from fedasync_jax.storage.structure import name_leaves

_MAX_HEADER = 1024  # bytes; NumPy's own headers have 128


class RawArray(NamedTuple):
    """An array as it travels.

    Attributes:
      dtype: its type in words, such as "float32".
      shape: its shape.
      data: the bytes of an ``.npy`` file.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class BadReply(Exception):
    """A reply that must not be mixed.

    Attributes:
      cause: what is wrong, in two or three words, to be counted by.
    """

    def __init__(self, cause: str, detail: str):
        """Keep the cause; the message is ``detail``."""
        super().__init__(detail)
        self.cause = cause


def encode(variables: Variables) -> dict[str, RawArray]:
    """Return a model as it travels.

    Raises:
      ValueError: if an array is not of floats, or of a type that ``.npy`` does not
        know, such as bfloat16.
    """
    return {name: _encode(name, a) for name, a in name_leaves(variables).items()}


def decode(raw: Mapping[str, RawArray], like: Variables) -> Variables:
    """Return the model that came in.

    Args:
      raw: its arrays.
      like: a model of the same kind, for names, shapes and types.

    Raises:
      BadReply: if an array is missing or not asked for, has another type, shape or
        size, or is not what it says.
    """
    wanted = name_leaves(like)
    if raw.keys() != wanted.keys():
        strange = sorted(raw.keys() ^ wanted.keys())[0]
        raise BadReply(
            "wrong names",
            f"the model must have the arrays {', '.join(wanted)}, got {len(raw)} "
            f"arrays; {strange[:80]!r} is in one of the two only",
        )
    arrays = [_decode(name, raw[name], leaf) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), arrays)


def measure_update(local: Variables, start: Variables) -> float:
    """Return ||x_new - x_tau||, over all arrays together; infinity if it overflows.

    Args:
      local: x_new, that came in.
      start: x_tau, that was sent.

    Raises:
      BadReply: if a value is not finite.
    """
    news, olds = name_leaves(local), name_leaves(start)
    for name, array in news.items():
        if not np.isfinite(array).all():
            raise BadReply("not finite", f"{name} must be finite, which it is not")
    with np.errstate(over="ignore"):
        return math.hypot(
            *(
                np.linalg.norm((new.astype(np.float64) - olds[name]).ravel())
                for name, new in news.items()
            )
        )


def scale_update(local: Variables, start: Variables, scale: float) -> Variables:
    """Return x_tau + scale (x_new - x_tau), in the types of the model; scale 1: x_new.

    Args:
      local: x_new.
      start: x_tau.
      scale: in (0, 1].
    """
    if scale == 1:
        return local

    def shorten(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return (old + scale * (new.astype(np.float64) - old)).astype(new.dtype)

    return jax.tree.map(shorten, local, jax.device_get(start))


def _encode(name: str, array: np.ndarray) -> RawArray:
    if array.dtype.kind != "f":
        raise ValueError(
            f"{name} must be a float array of a type that .npy files know to be sent "
            f"and mixed, got {array.dtype}"
        )
    file = io.BytesIO()
    np.save(file, np.asarray(array, order="C"), allow_pickle=False)
    return RawArray(str(array.dtype), array.shape, file.getvalue())


def _decode(name: str, raw: RawArray, like: np.ndarray) -> np.ndarray:
    """Return an array that came in, without a byte more memory than it should have."""
    if len(raw.data) > like.nbytes + _MAX_HEADER:
        raise BadReply(
            "too large",
            f"{name} must have {like.nbytes + _MAX_HEADER} bytes at most, "
            f"got {len(raw.data)}",
        )
    if raw.dtype != str(like.dtype):
        raise BadReply(
            "wrong dtype", f"{name} must be {like.dtype}, got {raw.dtype[:80]!r}"
        )
    if tuple(raw.shape) != like.shape:
        raise BadReply(
            "wrong shape", f"{name} must have shape {like.shape}, got {raw.shape[:9]}"
        )
    file = io.BytesIO(raw.data)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"version {version}")
        shape, in_columns, dtype = np.lib.format.read_array_header_1_0(
            file, max_header_size=_MAX_HEADER
        )
    except Exception as error:  # whatever strange bytes make of a parser
        raise BadReply("not decodable", f"{name} must be an .npy array") from error
    body = raw.data[file.tell() :]
    if (shape, in_columns, dtype, len(body)) != (
        like.shape,
        False,
        like.dtype,
        like.nbytes,
    ):
        raise BadReply("not decodable", f"{name} must hold what its shape and type say")
    return np.frombuffer(body, like.dtype).reshape(like.shape)
