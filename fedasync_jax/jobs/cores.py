"""What XLA must be told before its back end starts, in one place for all commands.

Call ``use_all_cores`` before the first use of a device.
"""

import contextlib
import functools
import os

import jax

# The devices of a CPU back end meet at the end of every wave. If one of them is a
# minute late, because a task is long, the machine is busy or the process was suspended
# (Ctrl-Z, a laptop asleep), XLA takes it for a deadlock and aborts the process. A run
# must survive that: say so after ten minutes, give up after a week. XLA aborts on flags
# that it does not know; these exist in jaxlib 0.10 to 0.12.
_PATIENCE = {
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds": 600,
    "--xla_cpu_collective_call_terminate_timeout_seconds": 7 * 24 * 3600,
}
_NUM_DEVICES_FLAG = "--xla_force_host_platform_device_count"


def use_all_cores() -> None:
    """Make one CPU device per usable core, see ``use_cores``."""
    use_cores(count_usable_cores())


@functools.cache
def use_cores(count: int) -> None:
    """Make so many CPU devices, and let them wait for one another.

    XLA computes small models on one core; the engine fills the cores with tasks, one
    device each. Nothing that the user has set in ``XLA_FLAGS`` or
    ``JAX_NUM_CPU_DEVICES`` is overridden. Accelerators are not affected. Only the
    first call does anything, and nothing if JAX has already used a device.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    missing = [f"{name}={s}" for name, s in _PATIENCE.items() if name not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *missing]).strip()
    if _NUM_DEVICES_FLAG not in flags and "JAX_NUM_CPU_DEVICES" not in os.environ:
        with contextlib.suppress(RuntimeError):  # it is too late to choose
            jax.config.update("jax_num_cpu_devices", count)


def count_usable_cores() -> int:
    """Return the number of cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
