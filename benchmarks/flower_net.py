"""The local network of the Flower example, for scripts that do things to it."""

import importlib.util
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).parents[1]
APP = _ROOT / "benchmarks" / "flower_app"  # whose clients do what a node config says


def load_local_net() -> ModuleType:
    """Return ``examples/flower/local_net.py``, which is in no package.

    Raises:
      ImportError: if it is not there.
    """
    path = _ROOT / "examples" / "flower" / "local_net.py"
    spec = importlib.util.spec_from_file_location("local_net", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} must be a module, which it is not")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
