"""The command lines on the pages are read by the parsers of their commands."""

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.command import BenchmarkSettings
from fedasync_jax.cli.command import COMMANDS
from fedasync_jax.cli.flags import parse_flags
from fedasync_jax.cli.leaderboard import LeaderboardFlags
from fedasync_jax.cli.plot import Flags as PlotFlags
from fedasync_jax.cli.report import ReportFlags
from fedasync_jax.cli.sweep import parse_sweep
from fedasync_jax.cli.train_flags import parse_train
from fedasync_jax.mixing.staleness import STALENESS_FNS
from reproduction.command import Flags as ReproduceFlags

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
OLD_RUN = ROOT / "tests" / "cli" / "old_run" / "run"

_UNFINISHED = {"fedasync train --methods"}  # as prose has it
_BLOCK = re.compile(r"^ *```(.*?)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_LINE = re.compile(r"(?:^|\s|\"|\$\()(fedasync [^\")|]*)")  # up to what ends it
_OF_SEVERAL = re.compile(
    r"--coordinator-address \S+ --num-processes \d --process-id \d"
)

PART = """
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.parts.bounds import above
from typing import Annotated

def cut(at: Annotated[float, above(0)] = 10.0):
    return lambda staleness: staleness * 0 + 1.0

STALENESS_FNS.register("cut", cut)
"""
RULE = """
def rule(step: float = 0.1):
    raise NotImplementedError
"""


def find_lines(text: str) -> list[str]:
    """Return the command lines of a page, in blocks and in backticks."""
    blocks = [block for kind, block in _BLOCK.findall(text) if kind in ("sh", "bash")]
    lines = [
        found[1]
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if (found := _LINE.search(line.partition("#")[0]))
    ]
    lines += re.findall(r"`(fedasync\s[^`]*)`", _BLOCK.sub("", text))
    words = [line.split() for line in lines]
    return [" ".join(one) for one in words if one[1] in COMMANDS and len(one) > 2]


LINES = sorted({line for page in PAGES for line in find_lines(page.read_text())})


def _of(record: type) -> Callable[[Sequence[str]], Any]:
    return lambda words: parse_flags(record, "", args=words)


PARSERS: dict[str, Callable[[Sequence[str]], Any]] = {
    "train": parse_train,
    "sweep": parse_sweep,
    "leaderboard": lambda words: _of(LeaderboardFlags)(words).check(),
    "plot": _of(PlotFlags),
    "report": _of(ReportFlags),
    "benchmark": _of(BenchmarkSettings),
    "reproduce": _of(ReproduceFlags),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Make what the pages call by these names, in a folder of its own."""
    shutil.copytree(OLD_RUN, tmp_path / "RUN")
    (tmp_path / "FILE.toml").write_text("alpha = 0.5\n")
    (tmp_path / "my_part.py").write_text(PART)
    (tmp_path / "my_module.py").write_text(RULE.replace("rule(", "my_rule("))
    (tmp_path / "my_rules.py").write_text(RULE.replace("rule(", "agreeing("))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("my_part", "my_module", "my_rules"):
        sys.modules.pop(name, None)
    STALENESS_FNS.pop("cut", None)


def test_lines_are_found():
    text = (
        "`fedasync train` `fedasync\nplot RUN` `fedasync.x`\n```sh\nfedasync sweep \\"
    )
    text += "\n  --seeds 1 # all\nsrun -n 4 fedasync train --check\nmake train\n```\n"
    assert find_lines(text) == [
        "fedasync sweep --seeds 1",
        "fedasync train --check",
        "fedasync plot RUN",
    ]
    assert len(LINES) > 60
    assert {line.split()[1] for line in LINES} >= PARSERS.keys()


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_pages_is_understood(line, here, capsys):
    # Processes would wait for one another.
    _, name, *words = _OF_SEVERAL.sub("--no-distributed", line).split()
    if line in _UNFINISHED or name not in PARSERS:
        return
    if "torch" in words:
        pytest.importorskip("torch")
    try:
        PARSERS[name](words)
    except SystemExit as ended:
        assert not ended.code, capsys.readouterr().err
