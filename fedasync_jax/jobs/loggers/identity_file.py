"""Names that services gave the runs of a method, so that a run goes on in its own."""

import json
from pathlib import Path

from fedasync_jax.jobs.loggers.protocol import LoggedRun
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage.schema import read_json
from fedasync_jax.storage.writing import make_folder, write_file


def read_service_id(run: LoggedRun, service: str) -> str | None:
    """Return the name of a method's run at a service; None if it has none.

    A run that begins anew has none, whatever the file says.

    Raises:
      ValueError: if the file cannot be read.
    """
    path = _path_of(run)
    if path is None or not run.version or not path.exists():
        return None
    return read_json(path, dict[str, str], "names by service")[0].get(service)


def write_service_id(run: LoggedRun, service: str, name: str) -> None:
    """Keep the name of a method's run at a service, if the job has a folder."""
    path = _path_of(run)
    if path is None:
        return
    make_folder(path.parent)
    known = {}
    if path.exists():
        known = read_json(path, dict[str, str], "names by service")[0]
    write_file(path, json.dumps({**known, service: name}).encode(), durable=False)


def _path_of(run: LoggedRun) -> Path | None:
    if run.folder is None:
        return None
    return run.folder / slugify(run.method) / "loggers.json"
