"""A mixing rule of one's own, by its import path: ``my_module.my_rule``."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import cast

from fedasync_jax.base import Mixer


def find_own_rule(path: str) -> Callable[..., Mixer]:
    """Return the factory at an import path; the working directory can be imported.

    Raises:
      ValueError: if it cannot be imported or is no function.
    """
    module, _, name = path.rpartition(".")
    here = os.getcwd()
    sys.path.append(here)
    try:
        factory = getattr(importlib.import_module(module), name)
    except Exception as error:  # it is the user's code, and may fail in any way
        what = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"methods must be rules, baselines or import paths, got {path!r} ({what})"
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(factory):
        raise ValueError(
            f"methods must be functions that return a rule, got {path!r}, which is a "
            f"{type(factory).__name__}"
        )
    return cast(Callable[..., Mixer], factory)
