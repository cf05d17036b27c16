"""Two real processes of a command on this machine, beside one."""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import fedasync_jax as fa
from fedasync_jax.cli.distributed import find_cluster, join_processes
from fedasync_jax.cli.flag_list import TRAIN_FLAGS

_ROOT = Path(__file__).parents[2]
_SETTINGS = {
    "methods": ("fedasync-polynomial", "fedavg"),
    "num_updates": 120,
    "eval_every": 40,
    "num_clients": 20,
    "concurrency": 10,
    "hidden": (8,),
    "checkpoint_every": 1,
}
# Once the run heeds signals, this process gets one.
_STOPPER = """
import os, signal, threading, time

def stop():
    while signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.SIG_IGN, None):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=stop, daemon=True).start()
"""

_LIBRARY = """
import dataclasses, json, sys
from pathlib import Path

import jax

jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[3]))

import fedasync_jax as fa
from fedasync_jax import tree
from fedasync_jax.engine.sharing import share_arrays
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.jobs.agreement import build_in_all
from fedasync_jax.jobs.sweep import Point, run_points

given, index = json.loads(sys.argv[2]), jax.process_index()
try:
    fa.train(fa.make_settings(**given, seed=index, run_dir="refused"))
except ValueError as error:
    print(error)

def build():
    # As if this processor rounded otherwise and the warm-up made much of it.
    built = build_experiment(fa.make_settings(**given))
    variables = tree.scale(built.initialized, 1 + 0.1 * index)
    return dataclasses.replace(built, variables=variables)

built = build_in_all(build)
print("x_0", tree.sha256(built.variables) == tree.sha256(built.initialized))
print("key", share_arrays(jax.random.key(index)) == jax.random.key(0))
points = [
    Point(Path("sweep", str(seed)), fa.make_settings(**given, seed=seed))
    for seed in (0, 1)
]
for point, results in run_points(points, {}):
    print(point.path.name, results.summary[0]["test_accuracy_mean"])
"""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _run_two(*words, cwd, own=((), ())):
    """Run two processes of ``fedasync train``, a device each; return what they said.

    Args:
      *words: of both.
      cwd: a folder for each.
      own: more words of each.
    """
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(_ROOT)}
    join = ["--coordinator-address", f"127.0.0.1:{_free_port()}", "--num-processes=2"]
    base = [sys.executable, "-m", "fedasync_jax", "train", *join]
    commands = [[*base, "--process-id", str(i), *words, *own[i]] for i in (0, 1)]
    return _run_both(commands, cwd, environment)


def _run_both(commands, cwd, environment):
    started = [
        subprocess.Popen(
            commands[index],
            cwd=cwd[index],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *texts)
        for process, texts in zip(started, said, strict=True)
    ]


def _read_metrics(run_dir):
    text = (run_dir / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for each of two machines that share no disk."""
    return [tmp_path_factory.mktemp(name) for name in ("one", "other")]


@pytest.fixture(scope="module")
def whole():
    """The metrics of one process with two devices that was not interrupted."""
    return fa.train(fa.make_settings(**_SETTINGS)).metrics()


@pytest.fixture(scope="module")
def stopped(folders):
    """Two processes, of which the second gets a SIGTERM; and their run folder."""
    (folders[1] / "stopper.py").write_text(_STOPPER)
    words = []
    for name, value in _SETTINGS.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    own = (), ("--load", "stopper.py")
    return _run_two(*words, "--run-dir", "run", cwd=folders, own=own), folders[
        0
    ] / "run"


def test_a_signal_to_one_process_saves_and_ends_both(stopped, folders):
    ended, run_dir = stopped
    for process in ended:
        assert process.returncode == 128 + signal.SIGTERM, process.stderr
    assert "resume with: " in ended[0].stdout
    assert _lines_of(ended[1].stdout) == []
    seals = list(run_dir.glob("fedasync*/checkpoints/*.json"))
    assert seals and all(0 < int(seal.stem) < 120 for seal in seals)
    # Process 1 has written nothing.
    assert {path.name for path in folders[1].iterdir()} <= {"stopper.py", "__pycache__"}


def test_one_process_goes_on_where_two_stopped(stopped, whole, tmp_path):
    run_dir = shutil.copytree(stopped[1], tmp_path / "run")
    results = fa.train(fa.make_settings(**_SETTINGS, run_dir=run_dir))
    assert results.metrics() == whole
    assert _read_metrics(run_dir) == whole


def test_two_processes_go_on_and_equal_one(stopped, whole, folders, tmp_path):
    run_dir = stopped[1]
    ended = _run_two("--resume", "run", cwd=folders)  # which process 1 cannot see
    for process in ended:
        assert process.returncode == 0, process.stderr
    assert _read_metrics(run_dir) == whole
    assert (run_dir / "summary.json").is_file()
    assert "2 cpu device(s) of 2 processes" in ended[0].stdout
    assert _lines_of(ended[1].stdout) == []
    # Further, in one process.
    longer = shutil.copytree(run_dir, tmp_path / "longer")
    further = fa.make_settings(**{**_SETTINGS, "num_updates": 160, "run_dir": longer})
    in_memory = fa.make_settings(**{**_SETTINGS, "num_updates": 160})
    assert fa.train(further).metrics() == fa.train(in_memory).metrics()


def test_from_python_settings_must_be_the_same_and_runs_share_programs(folders, whole):
    (folders[0] / "library.py").write_text(_LIBRARY)
    shutil.copy(folders[0] / "library.py", folders[1])
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(_ROOT)}
    settings = json.dumps({**_SETTINGS, "methods": _SETTINGS["methods"][:1]})
    join = [sys.executable, "library.py", str(_free_port()), settings]
    ended = _run_both([[*join, str(index)] for index in (0, 1)], folders, environment)
    for process in ended:
        assert process.returncode == 0, process.stderr
        refused, start, key, *trained = _lines_of(process.stdout)
        assert refused.startswith(
            "seed must be the same in all processes, got 0 in process 0 and 1 in "
            "process 1"
        )
        assert start == "x_0 True"  # that of process 0, bit for bit
        assert key == "key True"
        assert trained == _lines_of(ended[0].stdout)[3:]
    assert not (folders[0] / "refused").exists()
    # Two seeds side by side; the first is the run that the other tests have.
    alone = [row for row in whole if row["method"].startswith("FedAsync")]
    both = _read_metrics(folders[0] / "sweep" / "0")
    for row, other in zip(both, alone, strict=True):
        for name in ("version", "test_loss", "test_accuracy"):
            assert row[name] == pytest.approx(other[name], rel=1e-4)
    assert not (folders[1] / "sweep").exists()


def _lines_of(text):
    """Return what the command printed; the library below it has lines of its own."""
    return [line for line in text.splitlines() if not line.startswith("[Gloo]")]


# Joining


def _join(**given):
    names = {flag.name for flag in TRAIN_FLAGS}
    assert given.keys() <= names
    own = {"no_distributed": False, **given}
    join_processes(argparse.Namespace(**{**dict.fromkeys(names), **own}))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"num_processes": "2"},
            "process_id must be given together, got num_processes",
        ),
        ({"process_id": "2"}, "process_id must be in 0..1, got 2"),
        ({"process_id": "-1"}, "process_id must be a whole number >= 0, got -1"),
        ({"num_processes": "0"}, "num_processes must be a whole number >= 1, got 0"),
        ({"coordinator_address": "node1"}, "must be HOST:PORT, got node1"),
        ({"coordinator_address": "a:0"}, "must be HOST:PORT, got a:0"),
        ({"initialization_timeout": "x"}, "must be a whole number >= 1, got x"),
        ({"no_distributed": True}, "no_distributed must stand without"),
    ],
)
def test_bad_flags_end_in_a_line(given, line, capsys):
    if given != {"num_processes": "2"}:
        three = {"coordinator_address": "a:1", "num_processes": "2", "process_id": "0"}
        given = {**three, **given}
    with pytest.raises(SystemExit) as ended:
        _join(**given)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and line in said and said.count("\n") == 1


def test_a_process_of_one_is_alone():
    _join(coordinator_address="localhost:1", num_processes="1", process_id="0")
    _join(no_distributed=True)


def test_a_coordinator_that_does_not_answer_is_waited_for_so_long(tmp_path):
    words = ["--coordinator-address", f"127.0.0.1:{_free_port()}", "--num-processes=2"]
    words += ["--process-id", "1", "--initialization-timeout", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "fedasync_jax", "train", *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: all processes must be there in 1 s, got no answer")
    assert not list(tmp_path.iterdir())


_STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("environment", "cluster"),
    [
        ({}, None),
        (_STEP, "slurm"),
        ({**_STEP, "SLURM_STEP_NUM_TASKS": "1"}, None),  # a shell in the allocation
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, None),  # a script without srun
        ({**_STEP, "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "ompi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1"}, "tpu"),
        ({"TPU_WORKER_HOSTNAMES": "t0"}, None),
    ],
)
def test_clusters_are_found_by_what_they_tell(environment, cluster):
    elsewhere = {"TPU_SKIP_MDS_QUERY": "1"}  # as JAX has it where there is no chip
    assert find_cluster({**elsewhere, **environment}) == cluster
