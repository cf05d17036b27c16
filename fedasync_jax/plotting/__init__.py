"""Pictures of run folders, and a page of them: how good the models are, and the fleet.

What needs matplotlib is imported when it is asked for; the page does without.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedasync_jax.plotting.pictures import (
        compare_runs,
        draw_run,
        draw_sweep,
        make_comparison,
        make_figures,
    )

__all__ = ["compare_runs", "draw_run", "draw_sweep", "make_comparison", "make_figures"]


def __getattr__(name: str) -> Any:
    """Return a function of ``pictures``."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("fedasync_jax.plotting.pictures"), name)


def __dir__() -> list[str]:
    """Name these functions too, for completion and the reference."""
    return sorted({*globals(), *__all__})
