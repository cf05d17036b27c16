"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_prints_what_it_says():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    shown = re.search(r"# (\[.*\])$", code, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown is not None
    printed, promised = (
        [float(number) for number in text.strip(" []\n").split()]
        for text in (done.stdout, shown[1])
    )
    assert len(printed) == len(promised) == 3
    for left, right in zip(printed, promised, strict=True):
        assert abs(left - right) < 1e-5
