"""The batch files of CIFAR-10's python version, read without trust.

They are pickles, and a pickle may name any function to be called. Here only five names
are known, and all five lead to the two harmless stand-ins below: not even NumPy's own
functions see what the file says before it is checked.
"""

import io
import pickle
from typing import Any

import numpy as np


def read_pickled_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the two entries of a batch file that matter, "data" and "labels".

    Args:
      content: the whole file. Written by Python 2 or 3, with keys of either kind.

    Raises:
      ValueError: in one line, if that is no complete pickle, asks for anything that a
        batch does not need, or does not hold the two entries in their form.

    Returns:
      uint8 [N, D], and the labels as they are stored, int64 [M].
    """
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    # A damaged pickle raises any of a dozen types.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"cannot be unpickled ({reason})") from error
    if not isinstance(batch, dict):
        raise ValueError(f"must hold a dictionary, got {type(batch).__name__}")
    return _to_data(_entry(batch, "data")), read_labels(_entry(batch, "labels"))


class _Stored:
    """What the file says of an array or a dtype: arguments and state, unused."""

    def __init__(self, *args: Any):
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for ``_codecs.encode``, in which Python 3 wraps bytes (protocol 2)."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Stored,
    ("numpy._core.multiarray", "_reconstruct"): _Stored,
    ("numpy", "ndarray"): _Stored,
    ("numpy", "dtype"): _Stored,
    ("_codecs", "encode"): _encode,
}


class _BatchUnpickler(pickle.Unpickler):
    """Knows dictionaries, lists, tuples, text, bytes, numbers and stored arrays."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return the stand-in; nothing is imported."""
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            name = f"{module_name}.{global_name}"
            raise pickle.UnpicklingError(f"{name} is not allowed") from None


def _entry(batch: dict[Any, Any], name: str) -> Any:
    for key in (name, name.encode()):
        if key in batch:
            return batch[key]
    raise ValueError(f"the entry {name!r} is missing")


def _to_data(stored: Any) -> np.ndarray:
    """Return uint8 [N, D] from (version, shape, dtype, Fortran order, bytes)."""
    match stored:
        case _Stored(
            state=(
                int(),
                (int() as rows, int() as columns),
                _Stored(args=("u1" | b"u1" | "|u1" | b"|u1", *_)),
                False | 0,
                bytes() as raw,
            )
        ) if rows >= 0 and columns >= 0 and len(raw) == rows * columns:
            return np.frombuffer(raw, np.uint8).reshape(rows, columns)
    raise ValueError("'data' must be a uint8 array [N, D] in C order")


def read_labels(stored: Any) -> np.ndarray:
    """Return int64 [M]."""
    if not (isinstance(stored, list) and all(type(label) is int for label in stored)):
        raise ValueError("'labels' must be a list of whole numbers")
    try:
        return np.array(stored, np.int64)
    except OverflowError:
        raise ValueError("'labels' must fit into 64 bits") from None
