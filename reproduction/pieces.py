"""What the work took, as the commands that run it put it down."""

import json
from pathlib import Path
from typing import Any

from fedasync_jax.parts.files import read_utf8

_PIECE = {"runs", "updates", "seconds", "first_seconds", "hardware"}


def read_pieces(out: Path) -> list[dict[str, Any]]:
    """Return the lines of ``pieces.jsonl``; none if there is no such file.

    Raises:
      ValueError: if a line was not written by it.
    """
    path, pieces = out / "pieces.jsonl", []
    if not path.is_file():
        return []
    for number, line in enumerate(read_utf8(path).splitlines(), start=1):
        try:
            piece = json.loads(line)
        except ValueError:
            piece = None
        if not isinstance(piece, dict) or not _PIECE <= piece.keys():
            raise ValueError(
                f"{path} must have lines that this command wrote, got another as "
                f"line {number}"
            )
        pieces.append(piece)
    return pieces
