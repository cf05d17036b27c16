"""What the pages show is what happens."""

import re

from commands import ROOT, run_code

QUICKSTART = ROOT / "docs" / "quickstart.md"


def test_the_example_prints_what_it_says():
    _, code = re.findall(r"```python\n(.*?)```", QUICKSTART.read_text(), re.DOTALL)
    shown = re.search(r"# (\[.*\])$", code, re.MULTILINE)
    done = run_code(code, import_anew=True)
    assert shown is not None and done.returncode == 0, done.stderr
    printed, promised = (
        [float(number) for number in text.strip(" []\n").split()]
        for text in (done.stdout, shown[1])
    )
    assert len(printed) == len(promised) == 3
    for left, right in zip(printed, promised, strict=True):
        assert abs(left - right) < 1e-5


def test_the_examples_of_the_page_on_python_work_one_after_the_other(tmp_path):
    text = (ROOT / "docs" / "python.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 5
    done = run_code("\n".join(examples), cwd=tmp_path, import_anew=True)
    assert done.returncode == 0, done.stderr
    shown = re.search(r"^TrainResults of .*?^```", text, re.DOTALL | re.MULTILINE)
    assert shown is not None
    words, numbers = (re.split(r"\d+\.\d%", t) for t in (shown[0][:-4], done.stdout))
    assert numbers[: len(words) - 1] == words[:-1]
    assert numbers[len(words) - 1].startswith(words[-1])
    names = re.search(r"print\(\*figures\)  # (.*) \.\.\.", text)
    assert names is not None and names[1] in done.stdout
    for line in done.stdout.splitlines()[-2:]:
        found = [float(number) for number in line.strip("[]").split()]
        assert all(abs(a - b) < 0.01 for a, b in zip(found, [1, -2, 3], strict=True))
    assert {path.name for path in tmp_path.iterdir()} == {
        "accuracy.png",
        "my_model",
        "two.png",
    }


def test_the_example_of_sweeps_works(tmp_path):
    text = (ROOT / "docs" / "sweeps.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = run_code(code, cwd=tmp_path, import_anew=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 + 2
    assert all(line.startswith("2 seeds, rho 0.") for line in lines[4:])


def test_the_examples_of_runs_work_one_after_the_other(tmp_path):
    text = (ROOT / "docs" / "runs.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for code in examples:
        done = run_code(code, cwd=tmp_path, import_anew=True)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"\d+ .*", done.stdout.splitlines()[-1])
