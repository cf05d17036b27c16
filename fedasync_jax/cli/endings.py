"""How a command ends when the machine is in its way: in one line, or silently."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import jax

from fedasync_jax.cli.flags import fail

_NO_READER = 128 + signal.SIGPIPE  # exit code of what a pipe ends, as shells have it


@contextlib.contextmanager
def clear_endings() -> Iterator[None]:
    """End the process in one line where memory, the disk or the output gives out.

    A reader that has seen enough, as ``head`` has, ends it without a word.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # as it is where the shell closed it
                sys.stdout.flush()  # else it is written when nobody can say so
    except BrokenPipeError:
        _forget_output()
        sys.exit(_NO_READER)
    except MemoryError as error:
        fail(f"memory must suffice for these settings, got {str(error) or 'less'}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        fail(f"memory of the device must suffice for these settings, got {error}")
    except OSError as error:
        _forget_output()
        fail(error)


def _forget_output() -> None:
    """Let what is left in the buffer go nowhere, as the interpreter flushes it."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
