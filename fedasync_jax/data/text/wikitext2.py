"""WikiText-2, word by word, and its batches: what a language model trains on.

One batch of consecutive words is one sample of a client here: ``batchify`` makes them,
``deal_batches`` deals them to clients.
"""

import os
from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from fedasync_jax.data.dataset import Texts
from fedasync_jax.data.partition.apportion import even_sizes
from fedasync_jax.data.partition.base import Partition
from fedasync_jax.data.text.files import find_text, read_text, require_path
from fedasync_jax.parts.bounds import at_least

END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"

# With END_OF_LINE, as in the published data.
_NUM_TOKENS = {"train": 2_088_628, "valid": 217_646, "test": 245_569}
_NUM_TYPES = 33_278


class Text(NamedTuple):
    """A text in three splits, as numbers of words of one vocabulary of V words.

    Attributes:
      train: int32 [N], in 0..V-1.
      valid: int32 [M], in 0..V-1.
      test: int32 [T], in 0..V-1.
      vocabulary: V different words; word i has the number i.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    vocabulary: tuple[str, ...]


def load_wikitext2(data_dir: str | os.PathLike[str], *, verify: bool = True) -> Text:
    """Load WikiText-2, or another text of words in the same three files.

    Words are what white space separates. Every line, also a blank one, ends with the
    word ``<eos>``. The vocabulary has the words of all three splits, numbered as they
    first appear in train, then valid, then test.

    Args:
      data_dir: a folder with ``train.txt``, ``valid.txt`` and ``test.txt`` or with
        ``wiki.train.tokens`` and so on; each plain, ``.xz`` or ``.gz``, in UTF-8.
      verify: require the numbers of WikiText-2: 2,088,628, 217,646 and 245,569 words
        in the splits, 33,278 different ones. False for another text.

    Raises:
      ValueError: in one line, if a split is missing, damaged, empty or not UTF-8, or
        has other numbers.

    Reference: Merity, Xiong, Bradbury, Socher, "Pointer Sentinel Mixture Models",
    2016. Rules as in word_language_model of PyTorch's examples.
    """
    folder = Path(data_dir)
    names = {split: (f"{split}.txt", f"wiki.{split}.tokens") for split in _NUM_TOKENS}
    files = {split: find_text(folder, names[split]) for split in _NUM_TOKENS}
    numbers: dict[str, int] = {}
    splits = {}
    for split, file in files.items():
        splits[split] = _to_numbers(read_text(file), numbers)
        _check_count(file, "words", len(splits[split]), _NUM_TOKENS[split], verify)
    _check_count(folder, "different words", len(numbers), _NUM_TYPES, verify)
    return Text(**splits, vocabulary=tuple(numbers))


def keep_commonest(text: Text, num_words: int) -> Text:
    """Return a text of its commonest words; all others become ``<unk>``.

    The output layer, most of the work of a small language model, shrinks with the
    vocabulary. Losses are those of another task: no perplexity of all words compares.

    >>> words = np.array([0, 1, 2, 1, 2, 3, 2], np.int32)
    >>> text = keep_commonest(Text(words, words[:2], words[:4], tuple("abcd")), 3)
    >>> text.vocabulary, text.train.tolist()
    (('<unk>', 'c', 'b'), [0, 2, 1, 2, 1, 0, 1])

    Args:
      text: the text.
      num_words: size of the new vocabulary, >= 2: ``<unk>``, then the words that are
        commonest in train, those that appear earlier first.

    Raises:
      ValueError: if the number is out of range.
    """
    if not 2 <= num_words <= len(text.vocabulary):
        raise ValueError(
            f"vocabulary must be in 2..{len(text.vocabulary)} (words of the text), got "
            f"{num_words}"
        )
    counts = np.bincount(text.train, minlength=len(text.vocabulary))
    order = np.argsort(-counts, kind="stable")
    kept = [i for i in order if text.vocabulary[i] != UNKNOWN][: num_words - 1]
    numbers = np.zeros(len(text.vocabulary), np.int32)  # of <unk>
    numbers[kept] = np.arange(1, num_words)
    return Text(
        *(numbers[part] for part in (text.train, text.valid, text.test)),
        vocabulary=(UNKNOWN, *(text.vocabulary[i] for i in kept)),
    )


def batchify(
    tokens: np.ndarray, *, batch_size: int = 20, bptt: int = 35
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a text into ``batch_size`` streams and these into batches of ``bptt`` steps.

    With L = N // batch_size, column b is the text from b L to (b + 1) L, and y is x one
    word later: x[i, s, b] = tokens[b L + i bptt + s], y[i, s, b] is the word after it.
    A batch goes on where the one before stopped, so that a hidden state can be carried
    on. That makes (L - 1) // bptt batches; words that fill no whole batch are left out.
    WikiText-2 has L = 104,431 and 2983 batches of 20 x 35; PyTorch's example has a
    shorter batch, of 25 steps, after them.

    >>> x, y = batchify(np.arange(10), batch_size=2, bptt=2)
    >>> x.tolist(), y.tolist()
    ([[[0, 5], [1, 6]], [[2, 7], [3, 8]]], [[[1, 6], [2, 7]], [[3, 8], [4, 9]]])

    Args:
      tokens: int [N], N >= batch_size (bptt + 1).
      batch_size: number of streams, >= 1.
      bptt: steps per batch, >= 1.

    Raises:
      ValueError: if a number is out of range or the text too short for one batch.

    Returns:
      x and y, each int32 [B, bptt, batch_size] with B batches.
    """
    _check_positive("batch_size", batch_size)
    _check_positive("bptt", bptt)
    needed = batch_size * (bptt + 1)
    if tokens.ndim != 1 or len(tokens) < needed:
        raise ValueError(
            f"tokens must have a shape [N], N >= {needed} (batch_size (bptt + 1)), "
            f"got {tokens.shape}"
        )
    length = len(tokens) // batch_size
    streams = tokens[: length * batch_size].reshape(batch_size, length).T
    steps = (length - 1) // bptt * bptt
    x, y = (
        np.ascontiguousarray(part, np.int32).reshape(-1, bptt, batch_size)
        for part in (streams[:steps], streams[1 : steps + 1])
    )
    return x, y


def deal_wikitext2(
    path: str | os.PathLike[str] | None,
    num_clients: int,
    text_columns: Annotated[int, at_least(1)] = 20,
    bptt: Annotated[int, at_least(1)] = 35,
    vocabulary: Annotated[int, at_least(2)] | None = None,
) -> Texts:
    """Return WikiText-2 in batches of consecutive words, dealt to clients in turn.

    Args:
      path: see ``load_wikitext2``.
      num_clients: C.
      text_columns: texts side by side in a batch.
      bptt: words of each of these texts in a batch.
      vocabulary: words that are told apart, see ``keep_commonest``; None: all.

    Raises:
      ValueError: if there is no path, the text is bad or has fewer words.
    """
    folder = require_path(path, "train, valid and test .txt", "wikitext2")
    text = load_wikitext2(folder)
    if vocabulary is not None:
        text = keep_commonest(text, vocabulary)
    train, valid, test = (
        dict(zip("xy", batches, strict=True))
        for batches in (
            batchify(words, batch_size=text_columns, bptt=bptt)
            for words in (text.train, text.valid, text.test)
        )
    )
    return Texts(
        train=train,
        test=test,
        valid=valid,
        vocab_size=len(text.vocabulary),
        partition=deal_batches(len(train["x"]), num_clients),
        unit="batches",
        columns=text_columns,
    )


def deal_batches(num_batches: int, num_clients: int) -> Partition:
    """Deal batch i to client i mod C, as cards are dealt.

    The 2983 batches of WikiText-2 give 100 clients 29 or 30 each.

    >>> partition = deal_batches(5, 2)
    >>> partition.indices.tolist(), partition.counts.tolist()
    ([0, 2, 4, 1, 3], [3, 2])

    Args:
      num_batches: B, >= 1.
      num_clients: C, in 1..B.

    Raises:
      ValueError: if there are more clients than batches, or none.

    Returns:
      A partition of B rows, ascending within a client.
    """
    _check_positive("num_batches", num_batches)
    if not (isinstance(num_clients, Integral) and 1 <= num_clients <= num_batches):
        raise ValueError(
            f"num_clients must be in 1..{num_batches} (the number of batches), "
            f"got {num_clients}"
        )
    owners = np.arange(num_batches) % num_clients
    indices = np.argsort(owners, kind="stable").astype(np.int32)
    return Partition(indices, even_sizes(num_batches, num_clients).astype(np.int32))


def _words(text: str) -> Iterator[str]:
    """Yield the words of every line, and the word that ends it."""
    lines = text.split("\n")
    if not lines[-1]:  # what follows the last line end is no line
        lines.pop()
    for line in lines:
        yield from line.split()
        yield END_OF_LINE


def _to_numbers(text: str, numbers: dict[str, int]) -> np.ndarray:
    """Return int32 [N]; words that are new are added to ``numbers``."""
    found = (numbers.setdefault(word, len(numbers)) for word in _words(text))
    return np.fromiter(found, np.int32)


def _check_count(
    path: Path, what: str, count: int, expected: int, verify: bool
) -> None:
    if count == 0:
        raise ValueError(f"{path}: must hold one word or more, got an empty text")
    if verify and count != expected:
        raise ValueError(
            f"{path}: must have {expected} {what} (as WikiText-2; verify=False for "
            f"another text), got {count}"
        )


def _check_positive(name: str, value: int) -> None:
    if not (isinstance(value, Integral) and value >= 1):
        raise ValueError(f"{name} must be a whole number >= 1, got {value}")
