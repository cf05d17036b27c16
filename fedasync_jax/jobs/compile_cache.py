"""Compiled programs on the disk, so that a second run of a command compiles nothing."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax

from fedasync_jax.jobs.machine import cpu_model

_MOST_BYTES = 512 * 2**20
_NOISY = "0.10.0"  # this jaxlib prints a warning at every program that it reads
_OTHERS_MAY_WRITE = 0o022
_LOOKED_AT = ".looked-at"


@functools.cache
def keep_compiled_programs() -> Path | None:
    """Let JAX keep all compiled programs on the disk, from process to process.

    They lie in ``$JAX_COMPILATION_CACHE_DIR``, or else below the user's cache folder
    (see ``default_folder``), where those that were not used for longest give way when
    they take more than 512 MiB. Results do not depend on it. A folder that cannot be
    used, a full disk and a damaged entry cost time and nothing else. Call it before the
    first computation; only the first call does anything.

    Returns:
      The folder; None: there is none, and every process compiles its programs.
    """
    warnings.filterwarnings(
        "ignore", r"Error (read|writ)ing persistent compilation cache entry"
    )
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    chosen = chosen or jax.config.values["jax_compilation_cache_dir"]
    folder = Path(chosen) if chosen else _open_default()
    if folder is None:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def default_folder() -> Path:
    """Return the folder of this kind of processor in the user's cache folder.

    The latter is ``$XDG_CACHE_HOME``, else ``~/.cache``, on macOS ``~/Library/Caches``.
    A program is machine code of one kind of processor, and JAX does not ask on which it
    was compiled, so machines that share a home folder must not share their programs.

    Raises:
      RuntimeError: if there is no home folder.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not named.is_absolute():
        named = Path.home() / ("Library/Caches" if _is_mac() else ".cache")
    processor = hashlib.sha256(_describe_processor().encode()).hexdigest()[:12]
    return named / "fedasync-jax" / "compiled" / processor


def _open_default() -> Path | None:
    """Return the folder if it can be used and nobody else may write to it."""
    if importlib.metadata.version("jaxlib") == _NOISY:
        return None
    try:
        folder = default_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if about.st_uid != os.geteuid() or about.st_mode & _OTHERS_MAY_WRITE:
            return None  # what lies there is run
        if not os.access(folder, os.W_OK):
            return None
        tidy_up(folder, _MOST_BYTES)
    except (OSError, RuntimeError):
        return None
    return folder


def tidy_up(folder: Path, most_bytes: int) -> None:
    """Remove entries that are cut short, and the least recently used of too many.

    JAX leaves an entry cut short where a process is killed or the disk is full, and
    neither uses nor replaces it afterwards. Only entries that were written since the
    last time are looked into.

    Raises:
      OSError: if the folder cannot be read or written to.
    """
    stamp = folder / _LOOKED_AT
    looked_at = stamp.stat().st_mtime_ns if stamp.exists() else 0
    stamp.touch()
    total = 0
    for path, about in _list_entries(folder):
        total += about.st_size
        is_new = about.st_mtime_ns >= looked_at
        if total > most_bytes or (is_new and _is_cut_short(path)):
            path.unlink(missing_ok=True)


def _list_entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the entries, the most recently used first."""
    found = []
    for path in folder.glob("*-cache"):
        try:
            found.append((path, path.stat()))
        except FileNotFoundError:  # another process is tidying up
            continue
    yield from sorted(found, key=lambda one: one[1].st_atime_ns, reverse=True)


def _is_cut_short(path: Path) -> bool:
    """Return whether an entry is a stream of zlib without its end, or empty."""
    content = path.read_bytes()
    if content[:1] not in (b"", b"\x78"):
        return False  # compressed by zstandard, which need not be installed
    try:
        zlib.decompress(content)
    except zlib.error:
        return True
    return False


def _describe_processor() -> str:
    """Return what decides which machine code runs."""
    words = [platform.machine(), cpu_model()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = (line for line in lines if line.startswith(("flags", "Features")))
    return "\n".join([*words, next(flags, "")])


def _is_mac() -> bool:
    return sys.platform == "darwin"
