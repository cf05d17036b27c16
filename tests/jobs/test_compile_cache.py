"""Compiled programs on the disk: used by the next process, never in the way."""

import os
import stat
import sys
import time
import zlib

import pytest
from commands import ROOT, run_code, run_script

from fedasync_jax.jobs import compile_cache

SMALL = ("--methods", "fedasync-polynomial", "--num-updates", "60")
SMALL += ("--eval-every", "20", "--hidden", "8")


def train(folder, name, *more, may_fork=True, **env):
    """Run a small job with the cache below ``folder``, and return its metrics."""
    clean = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    home = {"XDG_CACHE_HOME": str(folder / "cache"), "MPLCONFIGDIR": str(folder)}
    words = [*SMALL, *more, "--run-dir", folder / name]
    how = {"env": clean | home | env, "may_fork": may_fork}
    done = run_script("train.py", *words, **how)
    assert (done.returncode, done.stderr) == (0, "")
    return (folder / name / "metrics.jsonl").read_bytes()


def list_entries(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*-cache")}


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """Return a folder with a cache, and the metrics of the run that filled it."""
    folder = tmp_path_factory.mktemp("warm")
    if compile_cache.importlib.metadata.version("jaxlib") == "0.10.0":
        pytest.skip("has no cache of its own")
    metrics = train(folder, "cold", may_fork=False)  # with other hashes of words
    return folder, metrics


def test_a_second_run_compiles_nothing_and_comes_to_the_same(warm):
    folder, metrics = warm
    entries = list_entries(folder)
    assert len(entries) > 5
    assert train(folder, "again") == metrics
    assert list_entries(folder) == entries


def test_without_the_cache_it_comes_to_the_same_and_keeps_nothing(warm, tmp_path):
    _, metrics = warm
    assert train(tmp_path, "run", "--no-compile-cache") == metrics
    assert not (tmp_path / "cache").exists()


def test_damaged_entries_are_made_anew(warm):
    folder, metrics = warm
    entries = list_entries(folder)
    for number, path in enumerate(entries):
        content = path.read_bytes()
        path.write_bytes(content[: number * len(content) // len(entries)])
    assert train(folder, "damaged") == metrics
    whole = list_entries(folder)
    assert whole.keys() == entries.keys()
    assert all(zlib.decompress(path.read_bytes()) for path in whole)


@pytest.mark.parametrize("chosen", [True, False])
def test_a_folder_that_cannot_be_is_as_good_as_none(warm, tmp_path, chosen):
    _, metrics = warm
    (tmp_path / "cache").write_text("a file in the way")
    env = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")} if chosen else {}
    assert train(tmp_path, "run", may_fork=not chosen, **env) == metrics


def test_a_full_disk_is_as_good_as_none(warm, tmp_path):
    """Files that may not grow: every entry ends in an OSError half-way."""
    _, metrics = warm
    code = (
        "import resource, signal, sys, runpy\n"
        "from fedasync_jax.jobs import compile_cache\n"
        "from jax._src import lru_cache\n"
        "write = lru_cache.LRUCache.put\n"
        "def put(self, key, value):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n"
        "    try: write(self, key, value)\n"
        "    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "lru_cache.LRUCache.put = put\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"sys.argv[0] = {str(ROOT / 'scripts' / 'train.py')!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    clean = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    words = [*SMALL, "--run-dir", tmp_path / "run"]
    env = clean | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run_code(code, *words, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics
    entries = list_entries(tmp_path / "cache")
    assert entries and all(path.stat().st_size <= 100 for path in entries)


def write_entry(folder, name, size, used):
    path = folder / f"{name}-cache"
    path.write_bytes(zlib.compress(os.urandom(size), 0))
    os.utime(path, (used, used))
    return path


def test_the_least_recently_used_give_way(tmp_path):
    now = time.time()
    kept = [write_entry(tmp_path, f"new-{n}", 1000, now - n) for n in range(3)]
    gone = [write_entry(tmp_path, f"old-{n}", 1000, now - 900 - n) for n in range(3)]
    other = tmp_path / "notes.txt"
    other.write_text("a user's")
    compile_cache.tidy_up(tmp_path, 3 * kept[0].stat().st_size)
    assert all(path.exists() for path in [*kept, other])
    assert not any(path.exists() for path in gone)


def test_what_is_cut_short_goes_and_what_is_not_zlib_stays(tmp_path):
    cut = write_entry(tmp_path, "cut", 1000, time.time())
    cut.write_bytes(cut.read_bytes()[:-5])
    empty, other = tmp_path / "empty-cache", tmp_path / "zstd-cache"
    empty.write_bytes(b"")
    other.write_bytes(b"\x28\xb5\x2f\xfd and so on")
    whole = write_entry(tmp_path, "whole", 1000, time.time())
    compile_cache.tidy_up(tmp_path, 10**9)
    assert (cut.exists(), empty.exists()) == (False, False)
    assert (other.exists(), whole.exists()) == (True, True)


def test_the_folder_follows_the_platform_and_the_processor(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = compile_cache.default_folder()
    assert first.parent == tmp_path / "fedasync-jax" / "compiled"
    monkeypatch.setattr(compile_cache, "_describe_processor", lambda: "another")
    assert compile_cache.default_folder() != first
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/do/not/count")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    assert compile_cache.default_folder().is_relative_to(tmp_path / "home" / caches)


def test_a_folder_that_others_may_write_to_is_not_used(monkeypatch, tmp_path):
    if compile_cache.importlib.metadata.version("jaxlib") == "0.10.0":
        pytest.skip("has no cache of its own")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compile_cache._open_default()
    assert folder is not None and stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert compile_cache._open_default() is None
