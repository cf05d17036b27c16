"""What commands that train do before they use a device."""

import logging

import jax

from fedasync_jax.jobs import cores
from fedasync_jax.jobs.compile_cache import keep_compiled_programs


def prepare_process() -> None:
    """Use all cores, and be silent where orbax is not."""
    cores.use_all_cores()
    # What orbax tells of a full disk on a hundred lines, commands tell on one.
    logging.getLogger("absl").setLevel(logging.CRITICAL)


def choose_compile_cache(is_wanted: bool) -> None:
    """Read and keep compiled programs on the disk, or compile all anew."""
    if is_wanted:
        keep_compiled_programs()
    else:
        jax.config.update("jax_enable_compilation_cache", False)
