"""Settings of the data: which, and where they lie."""

import dataclasses
from pathlib import Path
from typing import Annotated

from fedasync_jax.data.registry import DATASETS, TEXTS
from fedasync_jax.parts.bounds import FRACTION, one_of
from fedasync_jax.parts.registry import Setting
from fedasync_jax.parts.settings import PartSettings

_NAMES = one_of(DATASETS, TEXTS, families=tuple(DATASETS.families))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings(PartSettings):
    """What is learned.

    Attributes:
      dataset: Data to learn: digits (1,797 real 8x8 images, in the package), npz (your
        own arrays), table (your own CSV or Parquet), leaf (JSON of LEAF by users),
        cifar10, tfds:NAME (any image or text classification set of tensorflow-datasets,
        such as tfds:fashion_mnist or tfds:emnist/balanced), synthetic (of the FedProx
        paper), wikitext2 (a text by words), shakespeare or leaf-text (texts by
        characters).
      data_path: File or folder of the data. npz: the file, with x_train, y_train,
        x_test, y_test. table: a file, or a folder with train and test. leaf, leaf-text:
        a folder with train and test. tfds:NAME: its folder (default: that of
        tensorflow-datasets). cifar10: a folder with cifar10.npz, with the batches of
        the python or binary version, or prepared by tensorflow-datasets (default: the
        last, in its own folder). wikitext2: a folder with train, valid and test .txt or
        wiki.*.tokens. shakespeare: a folder with input.txt. Texts may be .xz or .gz.
      valid_share: Share of the training samples that is held out to choose settings by,
        in [0, 1); the same samples for every seed. wikitext2 has its own.

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    dataset: Annotated[str, _NAMES] = "digits"
    data_path: Path | None = None
    valid_share: Annotated[float, FRACTION] = 0.0

    @classmethod
    def choices(cls) -> dict[str, Setting]:
        """Return the settings of data sets and texts."""
        return {**DATASETS.settings(), **TEXTS.settings()}

    @property
    def tells_owners(self) -> bool:
        """Whether samples may come with their owners, for the natural partition."""
        return self.dataset in ("npz", "table", "leaf", "synthetic")

    @property
    def is_text(self) -> bool:
        """Whether a language model learns it."""
        return self.dataset in TEXTS
