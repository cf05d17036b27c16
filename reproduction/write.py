"""Write ``docs/reproduction.md`` and its pictures from results files.

    python scripts/write_reproduction.py runs/reproduction/small
    python scripts/write_reproduction.py

The first form adds the runs of scripts/reproduce.py to those of the same scale in the
documentation; either writes the page of all that are there. Nothing on it is typed.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.cli.run_flags import check_out
from fedasync_jax.storage.writing import write_file
from reproduction.forest import draw_findings
from reproduction.merge import merge_results
from reproduction.page import decide_everything, write_document
from reproduction.pictures import draw_all
from reproduction.scales import SCALES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is written, and where."""

    results: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of scripts/reproduce.py whose results are new."""
    out: Path = Path("docs")
    """Folder of the documentation."""
    replace: bool = False
    """Whether runs of the same scale that are there already are dropped."""


def main() -> None:
    """Write the page."""
    flags = parse_flags(Flags, __doc__ or "")
    try:
        check_out(flags.out)
        check_out(flags.out / "reproduction")
        _write(flags)
    except (OSError, ValueError) as error:
        fail(error)


def _write(flags: Flags) -> None:
    """Write results, pictures and page.

    Raises:
      OSError: if something cannot be written.
      ValueError: if results do not go together.
    """
    folder = flags.out / "reproduction"
    folder.mkdir(parents=True, exist_ok=True)
    if flags.results is not None:
        results = _read(flags.results / "results.json")
        path = folder / f"{results['scale']}.json"
        if path.exists() and not flags.replace:
            try:
                results = merge_results(_read(path), results)
            except ValueError as error:
                raise ValueError(f"{error}; --replace drops {path}") from error
        text = json.dumps(results, separators=(",", ":"))
        lines = text.replace('{"cell"', '\n{"cell"')  # so that changes can be read
        write_file(path, f"{lines}\n".encode())
    many = [_read(path) for path in sorted(folder.glob("*.json"))]
    if not many:
        fail(f"results must be a folder of reproduce.py, got none, nor any in {folder}")
    pictures = {}
    for results in many:
        name = results["scale"]
        drawn = draw_all(results, folder / name)
        pictures[name] = [path.stem for path in drawn]
    small = {
        number: f"{folder.name}/{path.name}"
        for number, path in draw_findings(decide_everything(many), folder).items()
    }
    page = flags.out / "reproduction.md"
    write_file(page, write_document(many, pictures, small).encode())
    print(f"wrote {page} from {len(many)} results file(s)")


def _read(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        missing = {"scale", "versions", "settings", "pieces", "runs"} - results.keys()
    except (OSError, ValueError, AttributeError) as error:
        fail(f"results must be a file that reproduce.py wrote, got {path} ({error})")
    if missing or results["scale"] not in SCALES:
        fail(f"results must be a file that reproduce.py wrote, got {path}")
    return results


if __name__ == "__main__":
    main()
