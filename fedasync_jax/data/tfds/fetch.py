"""Where TensorFlow Datasets has prepared data; what it has not, it downloads, once.

The only module of the data that uses a network, and only when nothing is prepared yet.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from fedasync_jax.parts.bounds import shorten

_TIMEOUT = 3.0  # seconds
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_PREPARE = "fedasync_jax.data.tfds.prepare"
_PACKAGES = ("tensorflow_datasets", "tensorflow")


class Address(NamedTuple):
    """Where a server accepts connections."""

    host: str
    port: int


class Wanted(NamedTuple):
    """A data set that TensorFlow Datasets prepares.

    Attributes:
      name: there; ``name/config`` if it has several.
      called: what errors call it.
      instead: what else may be done, for errors.
      sources: returns from where it is downloaded; asked if nothing is prepared.
      archives: patterns of the archive in ``downloads``, with which no network is
        needed.
    """

    name: str
    called: str
    instead: str
    sources: Callable[[], Sequence[Address]]
    archives: tuple[str, ...] = ()


def fetch_prepared(
    wanted: Wanted, data_dir: str | os.PathLike[str] | None = None
) -> Path:
    """Return the folder of a prepared data set; the first time, prepare it.

    Preparing takes minutes, a download, TensorFlow, and a process of its own, so that
    TensorFlow is never imported here. An interrupted preparation leaves nothing that is
    taken for the data set.

    Args:
      wanted: the data set.
      data_dir: the folder of TensorFlow Datasets; default ``$TFDS_DATA_DIR``, else
        ``~/tensorflow_datasets``.

    Raises:
      ValueError: in one line, if nothing is prepared and the extra ``tfds-prepare`` is
        not installed, the source cannot be reached (told after 3 seconds) or the
        preparation fails.
    """
    folder = Path(data_dir or _default_folder()).expanduser()
    found = find_prepared(folder, wanted.name)
    if found is None:
        _require_packages(wanted, folder)
        _require_source(wanted, folder)
        found = _prepare(wanted, folder)
    return found


def find_prepared(data_dir: str | os.PathLike[str], name: str) -> Path | None:
    """Return the folder of the newest version; nothing but this disk is asked.

    What TensorFlow Datasets has not finished lies in a folder that is no version.

    Args:
      data_dir: the folder that holds ``name/<version>/dataset_info.json``, or
        ``name/<config>/<version>/dataset_info.json``.
      name: of the data set; ``name/config`` if it has several.

    Raises:
      ValueError: if several configs of ``name`` lie there.
    """
    found = {*Path(data_dir).glob(f"{name}/*/dataset_info.json")} or {
        *Path(data_dir).glob(f"{name}/*/*/dataset_info.json")
    }
    folders = [path.parent for path in found if _is_version(path.parent)]
    configs = sorted({str(path.parent.relative_to(data_dir)) for path in folders})
    if len(configs) > 1:
        raise ValueError(
            f"{data_dir}: {name} must be one of {', '.join(configs)}, got no config"
        )
    versions = {tuple(map(int, p.name.split("."))): p for p in folders}
    return versions[max(versions)] if versions else None


def server_of(url: str) -> Address:
    """Return the server of an address."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return Address(parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80))


def _default_folder() -> str:
    """Return the folder that TensorFlow Datasets itself takes."""
    return os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def _is_version(folder: Path) -> bool:
    return all(part.isdecimal() for part in folder.name.split("."))


def _require_packages(wanted: Wanted, folder: Path) -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{wanted.called}: {wanted.instead}; or install the extra 'tfds-prepare' "
            f"({' and '.join(missing)}), which prepares it in {folder}"
        )


def _require_source(wanted: Wanted, folder: Path) -> None:
    """Fail at once without a network; TensorFlow Datasets would try for minutes."""
    if any(_has_archive(folder, pattern) for pattern in wanted.archives):
        return
    asked = [_find_proxy(source) or source for source in wanted.sources()]
    for server in dict.fromkeys(asked):
        if not _is_reachable(server):
            raise ValueError(
                f"{wanted.called}: nothing prepared in {folder} and {server.host} "
                f"cannot be reached; {wanted.instead}"
            )


def _has_archive(folder: Path, pattern: str) -> bool:
    """Tell whether TensorFlow Datasets finds the archive that it would download."""
    places = (pattern, f"*/{pattern}")
    return any(any((folder / "downloads").glob(place)) for place in places)


def _find_proxy(source: Address) -> Address | None:
    """Return the proxy that a download goes through, if any."""
    proxies = urllib.request.getproxies()
    scheme = "http" if source.port == _PORTS["http"] else "https"
    url = proxies.get(scheme) or proxies.get("all")
    if not url or urllib.request.proxy_bypass(source.host):
        return None
    return server_of(url)


def _is_reachable(server: Address) -> bool:
    """Tell whether a connection is accepted in time.

    In a thread, because the resolver of names knows no time limit.
    """
    connected = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection(server, _TIMEOUT):
                connected.set()
        except (OSError, UnicodeError):  # the latter from a name that cannot be one
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_TIMEOUT)
    return connected.is_set()


def _prepare(wanted: Wanted, folder: Path) -> Path:
    """Run the preparation; what counts is what lies there afterwards."""
    done = subprocess.run(
        [sys.executable, "-m", _PREPARE, wanted.name, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},  # TensorFlow would fill a GPU
    )
    found = find_prepared(folder, wanted.name)
    if found is None:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit status {done.returncode}"
        raise ValueError(
            f"{wanted.called}: could not be prepared in {folder} "
            f"({shorten(reason, 200)}); {wanted.instead}"
        )
    return found
