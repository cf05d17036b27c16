"""CIFAR-10 without a folder of one's own: TensorFlow Datasets downloads it, once.

The only module here that uses a network, and only when nothing is prepared yet.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from fedasync_jax.data.cifar10.tfds import find_prepared, load_cifar10_tfds
from fedasync_jax.data.dataset import Dataset

_TIMEOUT = 3.0  # seconds
_PORTS = {"https": 443, "socks5": 1080, "socks5h": 1080}
_PREPARE = "fedasync_jax.data.cifar10.prepare_tfds"
_PACKAGES = ("tensorflow_datasets", "tensorflow")
_INSTEAD = (
    "data_path (--data-path) must name a folder with cifar10.npz, the batches of the "
    "python or binary version, or cifar10/<version> of tensorflow-datasets"
)


class _Server(NamedTuple):
    host: str
    port: int


# Where TensorFlow Datasets downloads CIFAR-10 from.
_SOURCE = _Server("www.cs.toronto.edu", 443)


def fetch_cifar10(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load CIFAR-10 from TensorFlow Datasets; the first time, download and prepare it.

    What is prepared is read as ``load_cifar10_tfds`` does, without TensorFlow or a
    network. Preparing it takes minutes, 170 MB of download, TensorFlow, and a process
    of its own, so that TensorFlow is never imported here. An interrupted preparation
    leaves nothing that is taken for the data set.

    Args:
      data_dir: the folder of TensorFlow Datasets; default ``$TFDS_DATA_DIR``, else
        ``~/tensorflow_datasets``.

    Raises:
      ValueError: in one line, if nothing is prepared and the extra ``tfds`` is not
        installed, the source cannot be reached (told after 3 seconds) or the
        preparation fails; or as ``load_cifar10_tfds``.

    Returns:
      The record of ``load_cifar10``: images uint8, in 0..255.
    """
    folder = Path(data_dir or _default_folder()).expanduser()
    if not find_prepared(folder):
        _require_packages(folder)
        _require_source(folder)
        _prepare(folder)
    return load_cifar10_tfds(folder)


def _default_folder() -> str:
    """Return the folder that TensorFlow Datasets itself takes."""
    return os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def _require_packages(folder: Path) -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"cifar10: nothing prepared in {folder}; preparing it needs the extra "
            f"'tfds' ({' and '.join(missing)} not installed), or {_INSTEAD}"
        )


def _require_source(folder: Path) -> None:
    """Fail at once without a network; TensorFlow Datasets would try for minutes."""
    server = _find_proxy(_SOURCE.host) or _SOURCE
    if not (_has_archive(folder) or _is_reachable(server)):
        raise ValueError(
            f"cifar10: nothing prepared in {folder} and {server.host} cannot be "
            f"reached; {_INSTEAD}"
        )


def _has_archive(folder: Path) -> bool:
    """Tell whether TensorFlow Datasets finds the archive that it would download."""
    archives = ("*cifar-10-binary*.tar.gz", "*/*cifar-10-binary*.tar.gz")
    return any(any((folder / "downloads").glob(pattern)) for pattern in archives)


def _find_proxy(host: str) -> _Server | None:
    """Return the proxy that a download over https goes through, if any."""
    proxies = urllib.request.getproxies()
    url = proxies.get("https") or proxies.get("all")
    if not url or urllib.request.proxy_bypass(host):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return _Server(parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80))


def _is_reachable(server: _Server) -> bool:
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


def _prepare(folder: Path) -> None:
    """Run the preparation; what counts is what lies there afterwards."""
    done = subprocess.run(
        [sys.executable, "-m", _PREPARE, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},  # TensorFlow would fill a GPU
    )
    if not find_prepared(folder):
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit status {done.returncode}"
        raise ValueError(
            f"cifar10: could not be prepared in {folder} ({reason}); {_INSTEAD}"
        )
