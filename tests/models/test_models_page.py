"""The examples of the page on models run, one after the other."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import jax
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
)
OPTIONAL = ("equinox", "haiku")


def _run(block: str, names: dict[str, Any]) -> str:
    """Run an example as a user has it, not as strict as our tests; return its print."""
    printed = io.StringIO()
    promotion, ranks = jax.numpy_dtype_promotion, jax.numpy_rank_promotion
    with promotion("standard"), ranks("allow"), contextlib.redirect_stdout(printed):
        exec(compile(block, str(PAGE), "exec"), names)
    return printed.getvalue()


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Return what the first block defines, which all others share."""
    names: dict[str, Any] = {"__name__": "models_page"}
    _run(BLOCKS[0], names)
    exec("from flax import nnx", names)
    return names


@pytest.mark.parametrize("number", range(1, 8))
def test_an_example_runs(number, names):
    assert len(BLOCKS) == 8
    block = BLOCKS[number]
    for library in OPTIONAL:
        is_there = importlib.util.find_spec(library) is not None
        if f"import {library}" in block and not is_there:
            pytest.skip(f"{library} is not installed")
    shown = _run(block, names)
    if "correct: above 0.9" in block:
        (correct,) = re.findall(r"'correct': Array\(([\d.]+)", shown)
        assert float(correct) > 0.9
    if "loss: below 0.01" in block:
        (loss,) = re.findall(r"'loss': Array\(([\d.e-]+)", shown)
        assert float(loss) < 0.01
    if "# True" in block:
        assert shown == "True\n"
