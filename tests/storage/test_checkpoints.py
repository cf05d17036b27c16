"""Checkpoints: runs go on bit for bit, and what is damaged is passed over."""

import json
import shutil
import time

import jax
import numpy as np
import pytest

from fedasync_jax.engine.algorithm import run
from fedasync_jax.engine.batching import Batching
from fedasync_jax.engine.state import init_state
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs import runner
from fedasync_jax.jobs.callbacks import Callback
from fedasync_jax.schedule.trace import make_waves
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.checksums import find_best, find_scores

_JOB = {"num_clients": 12, "concurrency": 5, "clients_per_round": 4, "eval_every": 7}


def _build(num_updates=60, methods=("fedasync-polynomial",), **changes):
    settings = make_settings(
        num_updates=num_updates, methods=methods, **_JOB, **changes
    )
    return build_experiment(settings)


class Rows(Callback):
    """Collects the metrics."""

    def __init__(self, rows):
        self.rows = rows

    def on_metrics(self, method, row, *, again):
        self.rows.append(row)


def _run(built, folder=None, *, stop_at=None, method=0, max_width=64):
    """Run a method to its end, or until a wave after which it is asked to stop."""
    rows = []
    kwargs = {
        "callback": Rows(rows),
        "batching": Batching(max_width=max_width, call_seconds=0),
    }
    seen = []

    def should_stop():
        seen.append(None)
        return stop_at is not None and len(seen) > stop_at

    if folder is None:
        return runner.run_method(built, built.methods[method], **kwargs), rows
    with Checkpoints(folder, every=1) as checkpoints:
        outcome = runner.run_method(
            built,
            built.methods[method],
            checkpoints=checkpoints,
            should_stop=should_stop,
            **kwargs,
        )
    return outcome, rows


def _stop(built, folder, waves, **kwargs):
    with pytest.raises(runner.Stopped):
        _run(built, folder, stop_at=waves, **kwargs)


def _assert_same(first, second):
    (outcome_1, rows_1), (outcome_2, rows_2) = first, second
    assert rows_1 == rows_2
    results = outcome_1.result, outcome_2.result
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("fedasync-hinge", {"schedule": "sampled", "max_steps": 7}),
        ("fedasync-constant", {"plateau_factor": 0.5, "plateau_on": "test"}),
        ("fedavg", {"over_selection": 0.5}),
    ],
)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, method, changes):
    built = _build(methods=(method,), **changes)
    whole = _run(built)
    for stop in (0, 3, 4):  # each goes on where the one before has stopped
        _stop(built, tmp_path, stop)
    _assert_same(_run(built, tmp_path), whole)


@pytest.mark.parametrize("max_width", [1, 2])
def test_any_width_and_any_number_of_stops_give_the_same(tmp_path, max_width):
    built = _build()
    whole = _run(built, max_width=max_width)
    for stop in (1, 0, 2, 0):
        _stop(built, tmp_path, stop, max_width=max_width)
    _assert_same(_run(built, tmp_path, max_width=max_width), whole)


def test_a_finished_run_tells_its_metrics_again_and_trains_nothing(tmp_path):
    built = _build()
    first = _run(built, tmp_path)
    _assert_same(_run(built, tmp_path), first)


@pytest.mark.parametrize(
    ("shorter", "schedule"), [(2, "immediate"), (30, "immediate"), (35, "sampled")]
)
def test_a_run_can_be_extended(tmp_path, shorter, schedule):
    """Version 30 is not due in the longer run, 35 is; both go on exactly."""
    changes = {"schedule": schedule}
    _run(_build(num_updates=shorter, **changes), tmp_path)
    longer = _build(num_updates=80, **changes)
    _assert_same(_run(longer, tmp_path), _run(longer))


def test_there_is_a_checkpoint_before_the_wave_that_the_end_cuts(tmp_path):
    """The wave may be longer in a longer run; that one begins it anew."""

    def waves_of(method):
        due = range(0, method.trace.num_updates + 1, _JOB["eval_every"])
        return list(make_waves(method.trace.start_version, 64, stops=due))

    built = _build(num_updates=31, schedule="sampled")
    _run(built, tmp_path, max_width=64)
    begin, end = waves_of(built.methods[0])[-1]
    assert {begin, end} <= find_scores(tmp_path).keys() and end == 31
    longer = _build(num_updates=80, schedule="sampled").methods[0]
    ends = {end for _, end in waves_of(longer)}
    assert begin in ends and end not in ends
    first = init_state(longer.trace, longer.mixer, built.variables)
    with Checkpoints(tmp_path, every=1) as checkpoints:
        for prefer, version in ((ends.__contains__, begin), (lambda v: False, end)):
            found = checkpoints.restore(first, prefer=prefer)
            assert found is not None and found[0].state.version == version


def test_the_newest_are_kept(tmp_path):
    _run(_build(), tmp_path)
    seals = sorted(tmp_path.glob("*.json"))
    assert 1 <= len(seals) <= 3
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == sorted(seal.stem for seal in seals)
    assert (tmp_path / "60.json").is_file()


def _save_all(built, folder, *, scores, keep):
    """Save after every wave, with a score; return the versions that were saved."""
    method, saved = built.methods[0], []
    with Checkpoints(folder, every=1, keep=keep) as checkpoints:

        def save(versions, make_snapshot):
            if len(saved) < len(scores):
                score = scores[len(saved)]
                checkpoints.save(make_snapshot(0), {"n": len(saved)}, score=score)
                checkpoints.wait()
                saved.append(versions[0])

        key = built.settings.make_key("tasks")
        worker, mixer = method.local_update, method.mixer
        run(
            method.trace,
            worker,
            mixer,
            built.variables,
            key,
            batching=Batching(call_seconds=0),
            on_call=save,
        )
    return saved


def test_the_best_is_kept_besides_the_newest_and_can_be_restored(tmp_path):
    built = _build()
    scores = [0.1, 0.9, -np.inf, 0.9, 0.2, 0.3]
    saved = _save_all(built, tmp_path, scores=scores, keep=2)
    found = find_scores(tmp_path)
    assert found == {saved[1]: 0.9, saved[4]: 0.2, saved[5]: 0.3}
    assert find_best(found) == saved[1]
    assert {path.name for path in tmp_path.iterdir()} == {
        name for version in found for name in (str(version), f"{version}.json")
    }
    method = built.methods[0]
    first = init_state(method.trace, method.mixer, built.variables)
    with Checkpoints(tmp_path, every=1) as checkpoints:
        for version, number in ((None, 5), (saved[1], 1), (saved[4], 4)):
            restored = checkpoints.restore(first, version=version)
            assert restored is not None
            assert restored[1] == {"n": number}
            assert restored[0].state.version == saved[number]


def test_what_cannot_be_written_is_told_at_once_and_the_rest_is_kept(tmp_path):
    """Folders where seals are to be written stand for a full disk."""
    built = _build()
    _stop(built, tmp_path, 2)
    before = find_scores(tmp_path)
    for version in range(61):
        (tmp_path / f".{version}.json").mkdir()
    method = built.methods[0]
    first = init_state(method.trace, method.mixer, built.variables)
    line = r"checkpoint .*/\d+ could not be written \(.*\); those before it are kept"
    with pytest.raises(OSError, match=line):
        _run(built, tmp_path)
    with Checkpoints(tmp_path, every=1) as checkpoints:
        found = checkpoints.restore(first)
        assert found is not None
        snapshot, extra = found
        later = snapshot.state._replace(version=59)
        checkpoints.save(snapshot._replace(state=later), extra)
        with pytest.raises(OSError, match=line):
            for _ in range(1000):  # at once, not when the next one is due
                checkpoints.is_due(0)
                time.sleep(0.01)
    assert find_scores(tmp_path) == before
    for version in range(61):
        (tmp_path / f".{version}.json").rmdir()
    _assert_same(_run(built, tmp_path), _run(built))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run with two checkpoints, at least."""
    folder = tmp_path_factory.mktemp("stopped")
    built = _build()
    for stop in (2, 2):
        _stop(built, folder, stop)
    versions = sorted(int(seal.stem) for seal in folder.glob("*.json"))
    assert len(versions) >= 2
    return built, folder, versions


def _files(folder, version):
    yield folder / f"{version}.json"
    yield from (p for p in (folder / str(version)).rglob("*") if p.is_file())


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_flip, _cut, lambda path: path.unlink()])
def test_a_damaged_checkpoint_is_passed_over_for_an_intact_one(
    stopped, damage, tmp_path
):
    built, folder, versions = stopped
    method = built.methods[0]
    first = init_state(method.trace, method.mixer, built.variables)
    for path in sorted(_files(folder, versions[-1])):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        damage(copy / path.relative_to(folder))
        lines = []
        with Checkpoints(copy, every=1, on_skip=lines.append) as checkpoints:
            found = checkpoints.restore(first)
        assert found is not None
        assert found[0].state.version == versions[-2], path
        assert len(lines) == (
            path.suffix != ".json"
            or path.parent != folder
            or damage.__name__ != "<lambda>"
        )
        shutil.rmtree(copy)


def test_without_an_intact_checkpoint_the_run_is_refused(stopped, tmp_path):
    built, folder, versions = stopped
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for version in versions:
        _flip(copy / f"{version}.json")
    with pytest.raises(ValueError, match="must hold an intact checkpoint"):
        _run(built, copy)


def test_a_foreign_checkpoint_is_passed_over(stopped, tmp_path):
    """A seal that is whole but belongs to arrays of another shape."""
    _, folder, _ = stopped
    with pytest.raises(ValueError, match="must hold an intact checkpoint"):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        _run(_build(hidden=(5,)), copy)


def test_no_checkpoint_is_a_fresh_start(tmp_path):
    built = _build(num_updates=10)
    _assert_same(_run(built, tmp_path / "none"), _run(built))


def test_what_was_left_by_a_kill_counts_for_nothing(stopped, tmp_path):
    built, folder, versions = stopped
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.copytree(copy / str(versions[-1]), copy / "59")  # without a seal
    (copy / "59.tmp").write_text(json.dumps({}))
    _assert_same(_run(built, copy), _run(built))
    assert not (copy / "59").exists()


@pytest.mark.parametrize(("every", "keep", "name"), [(0, 1, "every"), (1, 0, "keep")])
def test_checkpoint_errors(tmp_path, every, keep, name):
    with pytest.raises(ValueError) as error:
        Checkpoints(tmp_path, every=every, keep=keep)
    assert str(error.value) == f"{name} must be >= 1, got 0"
