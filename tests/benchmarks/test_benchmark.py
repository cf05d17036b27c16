"""scripts/benchmark.py end to end, and what XLA is told of the cores."""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest
from commands import ROOT, run_code, run_script
from jax.sharding import Mesh

import fedasync_jax as fa
from benchmarks import ceilings, command, workloads

SCRIPTS = ROOT / "scripts"
KEYS = [
    "workload",
    "updates_per_s",
    "ceiling_updates_per_s",
    "ratio",
    "ceiling_all_devices_updates_per_s",
    "ratio_all_devices",
    "torch_updates_per_s",
    "torch_channels_last_updates_per_s",
    "ratio_torch",
    "compile_s",
    "engine_peak_mb",
    "samples_per_s",
    "task_flops",
    "task_xla_flops",
    "task_bytes_accessed",
    "model_bytes",
    "peak_flops_per_s",
    "share_of_peak",
    "by_clients",
    "peak_mb",
    "device_peak_mb",
    "hardware",
    "versions",
    "settings",
]

UNKNOWN = KEYS[KEYS.index("ceiling_updates_per_s") : KEYS.index("peak_mb")]


def run_benchmark(*args):
    return run_script("benchmark.py", *args)


def measure(*args):
    done = run_benchmark("--repeats", "1", *args)
    assert done.returncode == 0, done.stderr
    return done, json.loads(done.stdout.splitlines()[-1])


def test_mlp_reports_engine_and_ceiling(tmp_path):
    path = tmp_path / "mlp.json"
    args = ("--chunk", "0", "--max-width", "16", "--num-devices", "1")
    args += ("--mixing", "product", "--trace", tmp_path / "trace")
    done, result = measure("--num-updates", "30", "--json", path, *args)
    assert list(result) == KEYS
    assert json.loads(path.read_text()) == result
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))

    # The work of a task, by hand: products of a step forward and back, but for the
    # gradient by the first inputs.
    layers = 64 * 64, 64 * 10
    assert result["task_flops"] == 5 * 2 * 10 * (2 * layers[0] + 3 * layers[1])
    assert 1 < result["task_xla_flops"] / result["task_flops"] < 1.3
    assert result["model_bytes"] == 4 * (sum(layers) + 64 + 10)
    assert result["task_bytes_accessed"] > 5 * result["model_bytes"]
    rate = result["updates_per_s"]
    assert result["samples_per_s"] == pytest.approx(50 * rate)
    used = result["share_of_peak"] * result["peak_flops_per_s"]
    assert used == pytest.approx(rate * result["task_flops"])
    assert "no federation" in done.stdout
    engine = result["updates_per_s"]
    assert engine > 0
    for which in ("", "_all_devices"):
        ceiling = result[f"ceiling{which}_updates_per_s"]
        assert result[f"ratio{which}"] == pytest.approx(engine / ceiling)
    assert result["compile_s"] > 0
    assert result["peak_mb"] > 50
    assert result["hardware"]["platform"] == "cpu"
    assert set(result["versions"]) >= {"python", "jax", "jaxlib", "numpy"}
    assert result["settings"] == {
        "workload": "mlp",
        "num_updates": 30,
        "repeats": 1,
        "seed": 0,
        "clients": [],
        "against": None,
        "tiny": False,
        "convolution": "auto",
        "chunk": None,
        "max_width": 16,
        "num_devices": 1,
        "product": True,
    }


def test_mlp_runs_with_the_engines_own_choice():
    _, result = measure("--num-updates", "12")
    assert result["settings"]["chunk"] >= 1
    assert result["settings"]["num_devices"] == len(result["hardware"]["devices"])


@pytest.mark.parametrize("workload", ["cnn", "lstm"])
def test_a_large_task_stands_alone_on_a_cpu_device(workload):
    args = ("--workload", workload, "--tiny", "--num-updates", "3")
    done, result = measure(*args)
    assert list(result) == KEYS
    assert "ratio_all_devices:" in done.stdout
    assert "peak memory of the engine" in " ".join(done.stdout.split())
    engine = result["updates_per_s"]
    for which in ("", "_all_devices"):
        ceiling = result[f"ceiling{which}_updates_per_s"]
        assert result[f"ratio{which}"] == pytest.approx(engine / ceiling)
    assert result["ratio_torch"] is None
    assert 50 < result["engine_peak_mb"] <= result["peak_mb"]
    settings = result["settings"]
    assert settings["max_width"] == settings["num_devices"]
    assert settings["chunk"] is None


def test_patches_let_the_engine_have_many_tasks_a_call():
    args = ("--convolution", "patches", "--num-devices", "1", "--num-updates", "4")
    _, result = measure("--workload", "cnn", "--tiny", *args)
    assert result["settings"]["max_width"] > 1
    assert result["settings"]["chunk"] > 1


def test_numbers_of_updates_fit_the_workload():
    for workload, expected in {"mlp": (20_000, 5), "cnn": (24, 3)}.items():
        settings = command.BenchmarkSettings(workload=workload)
        assert (settings.count_updates(), settings.count_repeats()) == expected
    settings = command.BenchmarkSettings(workload="cnn", num_updates=7, repeats=2)
    assert (settings.count_updates(), settings.count_repeats()) == (7, 2)


def make_tiny_job(name, num_updates, **sizes):
    tiny = {"cnn": workloads.TINY_CNN, "lstm": workloads.TINY_LSTM}[name]
    sizes = dataclasses.replace(tiny, **sizes)
    if name == "lstm":
        return workloads.make_lstm_job(num_updates, 0, sizes)
    convolution = fa.models.choose_convolution("auto", "cpu")
    return workloads.make_cnn_job(num_updates, 0, sizes, convolution)


def one_device():
    return Mesh(np.array(jax.devices()[:1]), ("devices",))


def assert_close(actual, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5, rtol=1e-4),
        actual,
        expected,
    )


@pytest.mark.parametrize("workload", ["cnn", "lstm"])
def test_a_ceiling_does_the_steps_of_the_engine(workload):
    """One task at a time, mixed with weight 1, is the engine without federation."""
    num_updates = 3
    job = make_tiny_job(workload, num_updates, concurrency=1)
    federation = job.federation._replace(
        mixer=fa.mixing.fedasync(1.0, fa.staleness.constant())
    )
    engine = fa.run(*federation).state.variables
    start = federation.variables.params
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), engine.params, start)
    assert min(jax.tree.leaves(moved)) > 1e-4
    forms = [ceilings.make_host_loop(federation, one_device(), num_updates)]
    forms += [
        ceilings.make_fused_loop(federation, one_device(), width, num_updates)
        for width in job.loop_widths
        if width == 1
    ]
    assert len(forms) == {"cnn": 1, "lstm": 2}[workload]
    for form in forms:
        assert form.num_updates == num_updates
        trained = form.run()
        assert_close(jax.tree.map(lambda leaf: leaf[0], trained), engine)
        assert_close(form.run(), trained)  # every call begins anew


@pytest.mark.parametrize("form", ["make_host_loop", "make_fused_loop"])
def test_a_ceiling_gives_every_device_its_own_tasks(form):
    num_updates = 4
    federation = make_tiny_job("lstm", num_updates).federation
    mesh = Mesh(np.array(jax.devices()[:2]), ("devices",))
    width = (1,) if form == "make_fused_loop" else ()
    loop = getattr(ceilings, form)(federation, mesh, *width, num_updates)
    trained, trace = loop.run(), federation.trace
    assert loop.num_updates == num_updates
    assert getattr(ceilings, form)(federation, mesh, *width, 3).num_updates == 4
    for device in range(2):
        expected = federation.variables
        for row in range(device, num_updates, 2):
            key = jax.random.fold_in(federation.key, trace.task[row])
            expected, _ = federation.local_update(expected, trace.client[row], key, 2)
        assert_close(jax.tree.map(lambda leaf, d=device: leaf[d], trained), expected)


@pytest.mark.parametrize(
    ("workload", "sizes"),
    [
        ("cnn", {"samples": 4, "batch_size": 4, "step_size": 0.05}),
        ("lstm", {"samples": 1, "dropout": 0.0}),
    ],
)
def test_torch_does_the_steps_of_the_worker(workload, sizes):
    """With all of a client's samples in a batch their order makes no difference."""
    pytest.importorskip("torch")
    job = make_tiny_job(workload, 3, num_steps=4, **sizes)
    federation = job.federation
    client, task = federation.trace.client[-1], federation.trace.task[-1]
    key = jax.random.fold_in(federation.key, task)
    _, info = federation.local_update(federation.variables, client, key, 4)
    from benchmarks import torch_loops

    loops = torch_loops.make_torch_loops(job, 1)
    layouts = {"cnn": ["torch", "torch_channels_last"], "lstm": ["torch"]}
    assert list(loops) == layouts[workload]
    for loop in loops.values():
        assert loop.num_updates == 3
        losses = loop.run()
        assert len(losses) == 4
        assert losses[-1] < losses[0]
        assert np.mean(losses) == pytest.approx(float(info.loss), rel=1e-4)


def test_torch_is_measured_when_asked_for():
    pytest.importorskip("torch")
    args = ("--tiny", "--num-updates", "1", "--num-devices", "1")
    done, result = measure("--workload", "cnn", *args, "--against", "torch")
    assert list(result) == KEYS
    ratio = result["updates_per_s"] / result["torch_updates_per_s"]
    assert result["ratio_torch"] == pytest.approx(ratio)
    assert result["torch_channels_last_updates_per_s"] > 0
    assert "torch" in result["versions"]
    assert "ratio_torch:" in done.stdout


WITHOUT_TORCH = f"""
import runpy, sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "torch" else super().find_spec(name, path, target)

sys.meta_path = [Finder if f is PathFinder else f for f in sys.meta_path]
sys.path.insert(0, {str(SCRIPTS)!r})
runpy.run_path({str(SCRIPTS / "benchmark.py")!r}, run_name="__main__")
"""


def test_missing_torch_is_one_line_and_exit_code_2():
    done = run_code(WITHOUT_TORCH, "--workload", "lstm", "--against", "torch")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line == "error: against torch needs PyTorch: pip install torch"


def test_schedule_reports_events_and_waves():
    done, result = measure("--workload", "schedule", "--num-updates", "3000")
    assert list(result) == KEYS
    assert result["updates_per_s"] > 0
    measured = {key for key in KEYS if key in UNKNOWN and result[key] is not None}
    assert measured == {"by_clients"}
    sizes = [row["clients"] for row in result["by_clients"]]
    assert sizes == [100, 100, 10_000, 10_000, 1_000_000, 1_000_000]
    # Equal delays: a wave is all that is in flight. Sampled staleness: see SAMPLED.
    waves_table = done.stdout.split("fleets, ")[0].splitlines()
    rows = [line.split("│")[1:-1] for line in waves_table if "│" in line]
    waves = {(row[0].strip(), row[1].strip()): float(row[2]) for row in rows}
    for concurrency in (10, 100, 1000):
        assert waves["equal", str(concurrency)] == concurrency
    assert waves["sampled staleness, max 4", ""] == pytest.approx(2.2, abs=0.1)


def test_the_engine_is_compared_by_numbers_of_clients():
    args = ("--workload", "mlp", "--num-updates", "200", "--num-devices", "1")
    done, result = measure(*args, "--clients", "10", "1000")
    assert list(result) == KEYS
    rows = result["by_clients"]
    assert [row["clients"] for row in rows] == [10, 1000]
    for row in rows:
        assert set(row) == {"clients", "updates_per_s", "make_s"}
        assert row["updates_per_s"] > 0 and row["make_s"] > 0
    assert result["updates_per_s"] == min(row["updates_per_s"] for row in rows)
    assert result["settings"]["clients"] == [10, 1000]
    assert {key for key in UNKNOWN if result[key] is not None} == {"by_clients"}
    assert "1,000" in done.stdout


def test_the_clock_is_compared_by_numbers_of_clients():
    args = ("--workload", "schedule", "--num-updates", "500")
    done, result = measure(*args, "--clients", "10", "1000")
    assert list(result) == KEYS
    rows = result["by_clients"]
    assert [row["clients"] for row in rows] == [10, 10, 1000, 1000]
    for row in rows:
        assert row["tasks_per_s"] > 0 and row["make_s"] > 0 and row["peak_mb"] > 50
        assert row["events_per_s"] == pytest.approx(4 * row["tasks_per_s"])
    half, mobile = rows[2:]
    assert half["there"] == pytest.approx(0.5, abs=0.05)
    # 8 of 24 hours, 8 of 10 and 6 of 7 parts of the time.
    assert mobile["there"] == pytest.approx(8 / 24 * 8 / 10 * 12 / 13, abs=0.05)
    assert result["settings"]["clients"] == [10, 1000]
    assert "500 updates, 20 in flight" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--workload", "x"), "workload must be one of mlp, cnn, lstm, schedule"),
        (("--against", "x"), "against must be one of torch, got 'x'"),
        (("--against", "torch"), "workload against torch must be one of cnn, lstm"),
        (("--convolution", "x"), "convolution must be one of auto, xla, patches"),
        (
            ("--workload", "cnn", "--clients", "5"),
            "workload by clients must be one of mlp, schedule, got 'cnn'",
        ),
        (
            ("--workload", "lstm", "--clients", "5"),
            "workload by clients must be one of mlp, schedule, got 'lstm'",
        ),
        (("--clients", "10", "0"), "clients must be >= 1, got 0"),
        (("--num-updates", "0"), "num_updates must be >= 1, got 0"),
        (("--num-updates", "x"), "num_updates must be None or a whole number, got 'x'"),
        (("--repeats", "-1"), "repeats must be >= 1, got -1"),
        (("--seed", "-1"), "seed must be >= 0, got -1"),
        (("--chunk", "-1"), "chunk must be >= 0, got -1"),
        (("--max-width", "0"), "max_width must be >= 1, got 0"),
        (("--num-devices", "-1"), "num_devices must be >= 0, got -1"),
        (("--num-devices", "4096"), "num_devices must be in 0.."),
        (("--mixing", "x"), "mixing must be one of auto, scan, product, got 'x'"),
        (("--trace", "no/such/folder"), "trace must be a folder in one that exists"),
        (
            ("--trace", "t", "--workload", "schedule"),
            "trace needs one workload of the engine",
        ),
        (("--json", "no/such/folder/x.json"), "json must be a file in a folder"),
    ],
)
def test_bad_value_is_one_line_and_exit_code_2(args, message):
    done = run_benchmark(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--num-updates", -3), "flags must be those that --help lists, got --num-u"),
        (("--turns", 0), "turns must be finite and >= 1, got 0"),
    ],
)
def test_the_speed_of_processes_is_not_measured_for_bad_flags(words, told):
    done = run_script("process_speed.py", *words)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(f"error: {told}") and done.stderr.count("\n") == 1


def test_help_explains_every_flag():
    done = run_benchmark("--help")
    assert done.returncode == 0
    for flag in (
        "--workload",
        "--num-updates",
        "--chunk",
        "--against",
        "--json",
        "--clients",
    ):
        assert flag in done.stdout


def ask_devices(may_fork=True, **env):
    code = (
        "import os; from fedasync_jax.jobs import cores; cores.use_all_cores();"
        "cores.use_all_cores(); import jax; print(len(jax.devices()));"
        "cores.use_all_cores(); print(os.environ['XLA_FLAGS']);"
        "print(cores.count_usable_cores())"
    )
    done = run_code(code, env={**os.environ, **env}, may_fork=may_fork)
    assert done.returncode == 0, done.stderr
    num_devices, flags, num_cores = done.stdout.splitlines()
    return int(num_devices), flags.split(), int(num_cores)


def python_path(folder):
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def test_every_core_is_a_device_and_devices_wait_for_one_another():
    num_devices, flags, num_cores = ask_devices(XLA_FLAGS="")
    assert num_devices == num_cores >= 1
    names = {flag.partition("=")[0] for flag in flags}
    assert "--xla_cpu_collective_call_terminate_timeout_seconds" in names


def test_flags_of_the_user_are_kept():
    mine = [
        "--xla_force_host_platform_device_count=3",
        "--xla_cpu_collective_call_terminate_timeout_seconds=77",
    ]
    num_devices, flags, _ = ask_devices(XLA_FLAGS=" ".join(mine))
    assert num_devices == 3
    assert flags[:2] == mine
    assert sum("terminate_timeout" in flag for flag in flags) == 1


def test_number_of_devices_of_the_user_is_kept():
    num_devices, _, _ = ask_devices(False, XLA_FLAGS="", JAX_NUM_CPU_DEVICES="3")
    assert num_devices == 3
