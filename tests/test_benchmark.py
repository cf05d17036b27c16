"""scripts/benchmark.py end to end, and what scripts/_devices.py tells XLA."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
KEYS = [
    "workload",
    "updates_per_s",
    "ceiling_updates_per_s",
    "ratio",
    "ceiling_all_devices_updates_per_s",
    "ratio_all_devices",
    "compile_s",
    "peak_mb",
    "device_peak_mb",
    "hardware",
    "versions",
    "settings",
]


def run_python(*args, **env):
    clean = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    return subprocess.run(
        [sys.executable, *args],
        env=clean | {"JAX_PLATFORMS": "cpu"} | env,
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_benchmark(*args):
    return run_python(SCRIPTS / "benchmark.py", *args)


def measure(*args):
    done = run_benchmark("--repeats", "1", *args)
    assert done.returncode == 0, done.stderr
    return done, json.loads(done.stdout.splitlines()[-1])


def test_mlp_reports_engine_and_ceiling(tmp_path):
    path = tmp_path / "mlp.json"
    args = ("--chunk", "0", "--max-width", "16", "--num-devices", "1")
    done, result = measure("--num-updates", "30", "--json", path, *args)
    assert list(result) == KEYS
    assert json.loads(path.read_text()) == result
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
        "chunk": None,
        "max_width": 16,
        "num_devices": 1,
    }


def test_mlp_runs_with_the_engines_own_choice():
    _, result = measure("--num-updates", "12")
    assert result["settings"]["chunk"] >= 1
    assert result["settings"]["num_devices"] == len(result["hardware"]["devices"])


def test_schedule_reports_events_and_waves():
    done, result = measure("--workload", "schedule", "--num-updates", "3000")
    assert list(result) == KEYS
    assert result["updates_per_s"] > 0
    for name in ("ceiling_updates_per_s", "ratio", "ratio_all_devices", "compile_s"):
        assert result[name] is None
    # Equal delays: a wave is all that is in flight. Sampled staleness: see SAMPLED.
    rows = [line.split("│")[1:-1] for line in done.stdout.splitlines() if "│" in line]
    waves = {(row[0].strip(), row[1].strip()): float(row[2]) for row in rows}
    for concurrency in (10, 100, 1000):
        assert waves["equal", str(concurrency)] == concurrency
    assert waves["sampled staleness, max 4", ""] == pytest.approx(2.2, abs=0.1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--workload", "x"), "workload must be one of mlp, schedule, got 'x'"),
        (("--num-updates", "0"), "num_updates must be >= 1, got 0"),
        (("--num-updates", "x"), "Error parsing --num-updates"),
        (("--repeats", "-1"), "repeats must be >= 1, got -1"),
        (("--seed", "-1"), "seed must be >= 0, got -1"),
        (("--chunk", "-1"), "chunk must be >= 0, got -1"),
        (("--max-width", "0"), "max_width must be >= 1, got 0"),
        (("--num-devices", "-1"), "num_devices must be >= 0, got -1"),
        (("--num-devices", "4096"), "num_devices must be in 0.."),
        (("--json", "no/such/folder/x.json"), "json must be a file in a folder"),
    ],
)
def test_bad_value_is_one_line_and_exit_code_2(args, message):
    done = run_benchmark(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")


def test_help_explains_every_flag():
    done = run_benchmark("--help")
    assert done.returncode == 0
    for flag in ("--workload", "--num-updates", "--chunk", "--num-devices", "--json"):
        assert flag in done.stdout


def ask_devices(**env):
    code = (
        "import os, _devices; _devices.use_all_cores(); _devices.use_all_cores();"
        "import jax; print(len(jax.devices())); _devices.use_all_cores();"
        "print(os.environ['XLA_FLAGS']); print(_devices.count_usable_cores())"
    )
    done = run_python("-c", code, PYTHONPATH=python_path(SCRIPTS), **env)
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
    num_devices, _, _ = ask_devices(XLA_FLAGS="", JAX_NUM_CPU_DEVICES="3")
    assert num_devices == 3
