"""What is read back has a schema: a file holds what it must, or is refused by name.

People edit files, disks flip bits, and a file of another program may lie in the place
of ours. Nothing is used before it has been checked as a whole.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from fedasync_jax.parts.bounds import shorten
from fedasync_jax.parts.files import open_regular

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Json = dict[str, Any]

LONGEST_LINE = 297  # characters of an error; with an ellipsis, 300


class Origin(msgspec.Struct):
    """What made a part of a run: software and devices.

    Attributes:
      versions: of Python and libraries, by name.
      revision: of the source; None: unknown.
      devices: kind, platform and number.
    """

    versions: dict[str, str] = {}
    revision: str | None = None
    devices: tuple[str, str, int] | None = None


class Sitting(Origin):
    """A part of a run that was made in one go.

    Attributes:
      begins: the version that each method went on from, by its name.
    """

    begins: dict[str, Count] = {}


class Config(Origin):
    """``config.json``; what else is in it is kept as it is.

    Attributes:
      settings: by their flat names.
      preset: name of the settings that it began with; None: not a run of the command.
      fleet: name of the devices; None: those of the settings.
      sittings: the parts that it was made in.
      fingerprint: see ``fingerprint``.
    """

    settings: Json = msgspec.field(default_factory=dict)
    preset: str | None = None
    fleet: str | None = None
    sittings: list[Sitting] = []
    fingerprint: Json | None = None


class ClientSpreadColumns(msgspec.Struct, kw_only=True):
    """How a model serves the clients, see ``worker.ClientSpread``."""

    client_accuracy_mean: float | None = None
    client_accuracy_worst_tenth: float | None = None
    client_accuracy_best_tenth: float | None = None
    client_accuracy_std: float | None = None
    client_accuracy_gini: float | None = None
    client_loss_mean: float | None = None
    client_loss_worst_tenth: float | None = None
    client_loss_best_tenth: float | None = None
    client_loss_std: float | None = None
    client_loss_gini: float | None = None


class MetricsLine(ClientSpreadColumns):
    """What every line of ``metrics.jsonl`` must have, and what it may have.

    ``causes`` counts lost tasks over a network by their causes.
    """

    method: Annotated[str, msgspec.Meta(min_length=1)]
    version: Count
    updates: Count | None = None
    gradients: Annotated[int, msgspec.Meta(ge=0)] | None = None
    virtual_time: float | None = None
    train_loss: float | None = None
    mean_staleness: float | None = None
    mean_alpha: float | None = None
    rejected: Count = 0
    lost: Count = 0
    test_accuracy: float | None = None
    test_loss: float | None = None
    valid_accuracy: float | None = None
    valid_loss: float | None = None
    test_perplexity: float | None = None
    step_size: float | None = None
    causes: dict[str, Count] = {}


class SummaryLine(ClientSpreadColumns):
    """What every line of ``summary.json`` must have, and what it may have."""

    method: Annotated[str, msgspec.Meta(min_length=1)]
    devices: Count | None = None
    mean_staleness: float | None = None
    mean_alpha: float | None = None
    wall_seconds: float | None = None


class Facts(msgspec.Struct):
    """``method.json``."""

    name: str
    is_async: bool


class SealContent(msgspec.Struct):
    """What the seal of a checkpoint keeps.

    Attributes:
      version: that it is of.
      slots: start models in its store.
      evaluations: pairs of version and metrics.
      extra: what its maker wants to keep.
      files: checksums of the files, by their paths in the folder.
      score: how good it is, more is better; None: not known.
      fingerprint: of the run, see ``fingerprint``; None: an earlier version wrote it.
    """

    version: Count
    slots: Count
    evaluations: list[tuple[Count, Json]]
    extra: Json
    files: dict[str, str]
    score: float | None = None
    fingerprint: Json | None = None


class Seal(msgspec.Struct):
    """A seal of a checkpoint: its content, and the checksum of that."""

    content: SealContent
    sha256: str


class MetricsChecksum(msgspec.Struct):
    """``metrics.sha256``: the checksum of the first ``bytes`` of ``metrics.jsonl``."""

    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class ModelInfo(msgspec.Struct):
    """``model.json``; what else is in it is kept as it is.

    Attributes:
      leaves: shape and type of every tensor, by its name.
      load_with: how other programs load it.
      format: 2; None: an earlier version wrote it, without the next three.
      structure: of the model, see ``structure``.
      safetensors_sha256: checksum of ``model.safetensors``.
      sha256: checksum of all the rest.
    """

    leaves: dict[str, Json]
    load_with: dict[str, str]
    format: int | None = None
    structure: Any = None
    safetensors_sha256: str | None = None
    sha256: str | None = None


def hash_json(content: Any) -> str:
    """Return a checksum of what JSON can hold, whatever the order of the keys."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path, kind: type[T], what: str) -> tuple[T, Any]:
    """Return a JSON file as a record of ``kind``, and all that it holds.

    Args:
      path: of the file.
      kind: what it must hold.
      what: the same in words, for people.

    Raises:
      OSError: if there is no such file, or it cannot be read.
      ValueError: if it holds something else, in one line that names the file.
    """
    with open_regular(path) as file:
        return parse_json(file.read(), kind, what, str(path))


def parse_json(text: bytes, kind: type[T], what: str, where: str) -> tuple[T, Any]:
    """Return JSON as ``read_json`` does.

    Args:
      text: the JSON.
      kind: see ``read_json``.
      what: see ``read_json``.
      where: it stands, for people.
    """
    try:
        content = json.loads(text)  # msgspec's own does not know NaN
    except (ValueError, RecursionError) as error:
        raise ValueError(
            shorten(f"{where} must be {what}, got {error}", LONGEST_LINE)
        ) from error
    return convert(content, kind, what, where), content


def convert(content: Any, kind: type[T], what: str, where: str = "it") -> T:
    """Return what JSON held as a record of ``kind``.

    Raises:
      ValueError: if it holds something else, in one line.
    """
    try:
        return msgspec.convert(content, kind)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise ValueError(
            shorten(f"{where} must be {what}, got {error}", LONGEST_LINE)
        ) from error
