"""Parts of one's own: a file or a module that registers them, loaded before the flags.

# my_staleness.py
STALENESS_FNS.register("cut", cut)

fedasync train --load my_staleness.py --methods fedasync-cut --cut-at 3
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from fedasync_jax.cli.flags import fail


def load_parts(names: Sequence[str]) -> None:
    """Import files (``.py``) and modules; one that cannot be ends the process."""
    for name in names:
        try:
            import_part(name)
        except Exception as error:  # it is the user's code, and may fail in any way
            what = f"{type(error).__name__}: {error}"
            fail(f"load must be Python files or modules that work, got {name} ({what})")


def import_part(name: str) -> None:
    """Import a file (``.py``) or a module; whatever its code raises is raised."""
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # annotations are looked up there
    spec.loader.exec_module(module)
