"""The local network of the Flower example, for scripts that do things to it."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

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


def read_rows(run_dir: Path) -> list[dict[str, Any]]:
    """Return what a run that goes on has written of its evaluations, whole lines alone.

    ``read_run.read_metrics`` would compare them with a checksum that is just written.
    """
    path = run_dir / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if "\n" in line]
