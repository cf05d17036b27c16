"""Shakespeare by characters, one client per speaker: a natural, uneven partition."""

import os
import re
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from fedasync_jax.data.dataset import Texts
from fedasync_jax.data.partition.base import Partition
from fedasync_jax.data.text.files import find_text, read_text, require_path
from fedasync_jax.parts.bounds import at_least

_BLANKS = re.compile(r"[ \t]+$", re.MULTILINE)  # at line ends, where none can see them


class Speakers(NamedTuple):
    """Windows of L characters of C speakers, V different characters in all.

    Attributes:
      x_train: int32 [N, L], numbers of characters.
      y_train: int32 [N, L], the character after each of ``x_train``.
      x_test: int32 [T, L].
      y_test: int32 [T, L].
      partition: of the N training windows over the C speakers, in their order.
      speakers: C names, in order of appearance.
      vocabulary: V characters in the order of their code points.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    partition: Partition
    speakers: tuple[str, ...]
    vocabulary: tuple[str, ...]


def load_shakespeare(
    data_dir: str | os.PathLike[str],
    *,
    seq_len: int = 80,
    min_characters: int = 1000,
    num_speakers: int | None = None,
    test_fraction: float = 0.1,
) -> Speakers:
    """Load plays as a text of speeches; every speaker of enough text is a client.

    The text is blocks between blank lines: a name with a colon, then the speech. All
    speeches under one name are one text, joined by line ends, so that names such as
    "First Citizen" of several plays are one speaker. Blanks at line ends do not count.
    The last part of every speaker's text is for testing. Both parts are cut into
    windows that do not overlap (only ``y`` looks one character further); what fills no
    window is left out.

    Args:
      data_dir: a folder with ``input.txt``, plain, ``.xz`` or ``.gz``, in UTF-8.
      seq_len: L, characters per window, >= 1.
      min_characters: of a speaker to become a client; enough for a training window.
      num_speakers: if given, only so many become clients, those who say most.
      test_fraction: share of the test part of each text, in [0, 1), rounded up.

    Raises:
      ValueError: in one line, if an argument is out of range, the file is missing,
        damaged, not UTF-8 or in another form, or too few speakers say enough.

    Returns:
      Windows of training and test text. The vocabulary is that of the whole file, names
      included (65 characters in the file of char-rnn), and so of no argument.

    Reference: Karpathy, char-rnn, 2015 (the file); McMahan et al.,
    "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017 (a client per speaking role, windows of 80).
    """
    _check_sizes(seq_len, min_characters, test_fraction)
    file = find_text(Path(data_dir), ("input.txt",))
    text = _BLANKS.sub("", read_text(file))
    try:
        speeches = _collect_speeches(text)
        chosen = _choose_speakers(speeches, min_characters, num_speakers)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    codes = np.unique(_code_points(text))
    train, test = [], []
    for speech in chosen.values():
        numbers = np.searchsorted(codes, _code_points(speech)).astype(np.int32)
        cut = len(numbers) - _num_test(len(numbers), test_fraction)
        train.append(_cut_windows(numbers[:cut], seq_len))
        test.append(_cut_windows(numbers[cut:], seq_len))
    counts = np.array([len(x) for x, _ in train], np.int32)
    indices = np.arange(counts.sum(), dtype=np.int32)
    return Speakers(
        *(np.concatenate(part) for part in zip(*train, strict=True)),
        *(np.concatenate(part) for part in zip(*test, strict=True)),
        partition=Partition(indices, counts),
        speakers=tuple(chosen),
        vocabulary=tuple(map(chr, codes)),
    )


def deal_shakespeare(
    path: str | os.PathLike[str] | None,
    num_clients: int,
    window: Annotated[int, at_least(1)] = 80,
) -> Texts:
    """Return the plays in windows of characters; a client is a speaker.

    Args:
      path: see ``load_shakespeare``.
      num_clients: C, the speakers who say most.
      window: characters of a sample.

    Raises:
      ValueError: if there is no path, or the text is bad.
    """
    folder = require_path(path, "input.txt", "shakespeare")
    text = load_shakespeare(folder, seq_len=window, num_speakers=num_clients)
    return Texts(
        train={"x": text.x_train, "y": text.y_train},
        test={"x": text.x_test, "y": text.y_test},
        valid=None,
        vocab_size=len(text.vocabulary),
        partition=text.partition,
        unit="windows",
        columns=None,
    )


def _check_sizes(seq_len: int, min_characters: int, test_fraction: float) -> None:
    if not (isinstance(seq_len, Integral) and seq_len >= 1):
        raise ValueError(f"seq_len must be a whole number >= 1, got {seq_len}")
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction must be in [0, 1), got {test_fraction}")
    if min_characters - _num_test(min_characters, test_fraction) <= seq_len:
        raise ValueError(
            f"min_characters must leave {seq_len + 1} characters (seq_len + 1) after "
            f"the test fraction of {test_fraction}, got {min_characters}"
        )


def _num_test(num_characters: int, test_fraction: float) -> int:
    return int(np.ceil(num_characters * test_fraction))


def _collect_speeches(text: str) -> dict[str, str]:
    """Return the whole text of every speaker, in order of appearance."""
    speeches: dict[str, list[str]] = {}
    for number, block in enumerate(text.strip("\n").split("\n\n"), start=1):
        name, _, speech = block.strip("\n").partition("\n")
        if not name.endswith(":"):
            raise ValueError(
                f"speech {number} must begin with a line of a name and a colon, "
                f"got {name[:40]!r}"
            )
        speeches.setdefault(name[:-1], []).append(speech)
    return {name: "\n".join(parts) for name, parts in speeches.items()}


def _choose_speakers(
    speeches: Mapping[str, str], minimum: int, number: int | None
) -> dict[str, str]:
    long = [name for name, text in speeches.items() if len(text) >= minimum]
    if len(long) < (number or 1):
        raise ValueError(
            f"must have {number or 1} speaker(s) of {minimum} characters "
            f"(min_characters) or more, got {len(long)} of {len(speeches)}"
        )
    most = set(sorted(long, key=lambda name: -len(speeches[name]))[:number])
    return {name: text for name, text in speeches.items() if name in most}


def _code_points(text: str) -> np.ndarray:
    """Return uint32 [N]."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def _cut_windows(numbers: np.ndarray, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, int32 [W, L], W the windows that have a next character."""
    length = max(len(numbers) - 1, 0) // seq_len * seq_len
    return (
        numbers[:length].reshape(-1, seq_len),
        numbers[1 : length + 1].reshape(-1, seq_len),
    )
