"""Whether a run folder may be written to: it is new, or that of the same run."""

from pathlib import Path

from fedasync_jax.parts.bounds import shorten
from fedasync_jax.parts.files import stat_folder
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.fingerprint import Fingerprint
from fedasync_jax.storage.schema import LONGEST_LINE, Json


def check_goes_on(path: str | Path, fingerprint: Fingerprint) -> None:
    """Refuse a folder that holds anything but an earlier part of the same run.

    Nothing is ever overwritten. A folder that is empty is a new one. A run goes on with
    what it began with; only ``num_updates`` may grow.

    Args:
      path: the run folder.
      fingerprint: of the run, as far as it is known; see there.

    Raises:
      ValueError: if ``path`` exists and is not such a run, in a line that says what
        differs.
    """
    if stat_folder("run_dir", Path(path)) is None or _is_unused(Path(path)):
        return
    earlier = read_config(path)
    for name, (before, now) in list_changes(earlier, fingerprint).items():
        grows = (
            name == "num_updates"
            and isinstance(before, int)
            and isinstance(now, int)
            and before <= now
        )
        if not grows:
            raise ValueError(
                shorten(
                    f"{name} must be {before} to go on with the run {path}, got {now}",
                    LONGEST_LINE,
                )
            )
    difference = fingerprint.find_difference(earlier.get("fingerprint") or {})
    if difference is not None:
        raise ValueError(f"run_dir must hold the same run, but {path} has {difference}")


def list_changes(
    config: Json, fingerprint: Fingerprint
) -> dict[str, tuple[object, object]]:
    """Return the settings that differ from those of a run: before and now, by name.

    Where its data are known by their checksum, it does not matter where they lie.

    Args:
      config: of the run, see ``read_config``.
      fingerprint: of what is asked for.
    """
    if not (config.get("fingerprint") or {}).get("data"):
        fingerprint = fingerprint._replace(places=frozenset({"run_dir"}))
    changes = fingerprint.compare(config["settings"])
    for name in ("run_dir", "evaluate_clients"):
        changes.pop(name, None)
    return changes


def _is_unused(folder: Path) -> bool:
    """Return whether a folder is empty, or a run was killed before it began there."""
    if not folder.is_dir():
        return False
    try:
        return {path.name for path in folder.iterdir()} <= {".lock", ".config.json"}
    except PermissionError:
        return False  # told of by whoever reads it
