"""Texts as counts of their words, for classifiers that want numbers.

Every word has a column by its hash, so that there is no vocabulary to learn or to keep.

Reference: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML
2009, without its signs.
"""

import re
import zlib

import numpy as np

NUM_COLUMNS = 2048
_WORD = re.compile(r"\w+")


def count_words(text: str | bytes, num_columns: int = NUM_COLUMNS) -> np.ndarray:
    """Return x_j = log(1 + c_j) / norm, with c_j the words whose hash is j mod D.

    The Euclidean norm of the result is 1; of a text without words it is zero. Capital
    letters count as small ones.

    >>> x = count_words("To be, or not to be", 8)
    >>> x.dtype.name, x.shape, round(float(x @ x), 6)
    ('float32', (8,), 1.0)

    Args:
      text: UTF-8 if it is in bytes.
      num_columns: D.

    Returns:
      Float32 [D].
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    columns = [
        zlib.crc32(word.encode()) % num_columns for word in _WORD.findall(text.lower())
    ]
    logs = np.log1p(np.bincount(columns, minlength=num_columns))
    norm = np.linalg.norm(logs)
    return (logs / (norm or 1.0)).astype(np.float32)
