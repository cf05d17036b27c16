"""What a machine is, and how much of its memory a process has used."""

import contextlib
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from fedasync_jax.jobs import cores
from fedasync_jax.jobs.versions import describe_revision, describe_versions


def host_peak_mb() -> float:
    """Return the most memory that this process has had, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def device_peak_mb() -> float | None:
    """Return the most memory that the first device here has used, in MB, if known."""
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return None if peak is None else peak / 1e6


def describe_origin() -> dict[str, Any]:
    """Return what made a run, for its ``config.json``: software and devices."""
    devices = jax.devices()
    return {
        "versions": describe_versions(),
        "revision": describe_revision(),
        "devices": [str(devices[0].device_kind), devices[0].platform, len(devices)],
    }


def describe_hardware() -> dict[str, Any]:
    """Return what the numbers depend on most."""
    return {
        "cpu_model": cpu_model(),
        "cores": cores.count_usable_cores(),
        "devices": [device.device_kind for device in jax.devices()],
        "platform": jax.default_backend(),
    }


def cpu_model() -> str:
    """Return the name that the processor gives itself, as far as it can be found."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.check_output(command, text=True, timeout=10).strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
