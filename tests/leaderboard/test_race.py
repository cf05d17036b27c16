"""Runs of a leaderboard: equal to runs alone, gone on with, open to other rules."""

import sys

import numpy as np
import pytest

from fedasync_jax.cli import leaderboard
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.jobs.runner import run_method
from fedasync_jax.leaderboard.board import (
    NUM_LAST,
    TASKS,
    BoardTask,
    Cell,
    find_protocol,
    list_cells,
    make_cell_settings,
)
from fedasync_jax.leaderboard.entries import ENTRIES, OURS, PUBLISHED, Contender
from fedasync_jax.leaderboard.race import Race, Try
from fedasync_jax.leaderboard.results import read_results

TINY = BoardTask(
    "tiny digits",
    {
        "step_size": 0.2,
        "hidden": (4,),
        "num_updates": 60,
        "eval_every": 20,
        "num_clients": 20,
    },
    {"IID": {"partition": "iid"}},
    target=0.2,
    in_flight=(5,),
)
FEW = {
    "delta": Contender(PUBLISHED, ("delta:step=0.1", "delta:step=0.2")),
    "fedavg": Contender("synchronous", ("fedavg:clients=5",)),
    "tethered": Contender(OURS, ("tethered:average=9",)),
}
CELL = Cell("tiny", "stragglers", 5, "IID")


@pytest.fixture
def board(monkeypatch):
    monkeypatch.setitem(TASKS, "tiny", TINY)
    for name in list(ENTRIES):
        monkeypatch.delitem(ENTRIES, name)
    for name, entry in FEW.items():
        monkeypatch.setitem(ENTRIES, name, entry)


def test_a_run_is_the_run_of_the_same_settings_alone(board):
    lines = ["delta:step=0.1", "delta:step=0.2", "fedavg:clients=5"]
    race = Race(CELL, lines, {}, protocol="p", data_path=None)
    tries = [Try("delta:step=0.2", 2.0, 100), Try("delta:step=0.1", 2.0, 100)]
    ran = {result.line: result for result in race.run(tries)}
    settings = make_cell_settings(CELL, seed=100, factor=2.0)
    assert settings["step_size"] == 0.4 and settings["seed"] == 100
    experiment = build_experiment(settings.replace(methods=tuple(lines[:2])))
    for method in experiment.methods:
        rows = run_method(experiment, method).rows
        last = [row["test_accuracy"] for row in rows[-NUM_LAST:]]
        assert ran[method.name].test_accuracy == pytest.approx(np.mean(last), abs=3e-3)
        assert ran[method.name].virtual_time == round(rows[-1]["virtual_time"], 3)
        times = [r["virtual_time"] for r in rows if r["test_accuracy"] >= TINY.target]
        assert ran[method.name].time_to_target == (
            round(times[0], 3) if times else None
        )


def call(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["fedasync leaderboard", *args])
    leaderboard.main()


def test_it_is_run_once_gone_on_with_and_entered(board, monkeypatch, tmp_path, capsys):
    out = tmp_path / "board"
    args = ["--tasks", "tiny", "--out", str(out), "--num-seeds", "2", "--jobs", "1"]
    call(monkeypatch, *args)
    said = capsys.readouterr().out
    assert "tiny: 3 of 3 cells" in said and f"wrote {out}.md" in said
    path, protocol = out / "tiny.csv", find_protocol("tiny")
    results = read_results(path, protocol)
    assert len({ran.key for ran in results}) == len(results)
    assert {Cell("tiny", *ran.key[:3]) for ran in results} == set(list_cells("tiny"))
    page = (tmp_path / "board.md").read_text()
    assert "**tethered**" in page and "tiny digits" in page

    # What was there is not run again, and what was cut off is run alone.
    whole = path.read_bytes()
    call(monkeypatch, *args)
    assert path.read_bytes() == whole
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    call(monkeypatch, *args)
    again = read_results(path, protocol)
    assert {ran.key for ran in again} == {ran.key for ran in results}
    of_key = {ran.key: ran for ran in results}
    for ran in again:
        assert ran.valid_accuracy == pytest.approx(of_key[ran.key].valid_accuracy, 1e-2)

    # A rule of one's own enters by its import path, without the others being run again.
    (tmp_path / "my_entry.py").write_text(
        "import fedasync_jax as fa\n\n\ndef my_rule(step: float = 0.3):\n"
        "    return fa.mixing.delta(step)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    call(monkeypatch, *args, "--enter", "my_entry.my_rule", "my_entry.my_rule:step=0.2")
    more = read_results(path, protocol)
    assert more[: len(again)] == again
    assert {r.line.partition(":")[0] for r in more[len(again) :]} == {
        "my_entry.my_rule"
    }
    twin = {ran.key: ran for ran in more}
    for ran in more[len(again) :]:
        if ran.line.endswith("step=0.2"):
            key = (*ran.key[:3], "delta:step=0.2", *ran.key[4:])
            if key in twin:
                assert ran.test_accuracy == twin[key].test_accuracy
    assert "my_entry.my_rule" in (tmp_path / "board.md").read_text()


def test_two_processes_run_what_one_runs(tmp_path):
    # In a process of its own: those that it starts must find the task as well.
    import subprocess
    import textwrap

    code = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from fedasync_jax.leaderboard.board import TASKS, list_cells, find_protocol
        from fedasync_jax.leaderboard.entries import Contender
        from fedasync_jax.leaderboard.workers import RacePlan, race_side_by_side

        TASKS["digits"] = TASKS["digits"]._replace(
            fields={{**{dict(TINY.fields)!r}}}, in_flight=(5,),
            variants={{"IID": {{"partition": "iid"}}}},
        )
        if __name__ == "__main__":
            entries = {{"delta": Contender("published", ("delta",))}}
            for jobs in (1, 2):
                plan = RacePlan(
                    list_cells("digits"), entries, (0,), Path(f"{{jobs}}.csv"),
                    find_protocol("digits"), None, None
                )
                assert len(list(race_side_by_side(plan, jobs))) == 3
        """
    )
    (tmp_path / "both.py").write_text(code)
    subprocess.run([sys.executable, "both.py"], cwd=tmp_path, check=True, timeout=500)
    found = [
        {
            ",".join(line.split(",")[:7])
            for line in (tmp_path / f"{n}.csv").read_text().splitlines()
        }
        for n in (1, 2)
    ]
    # Three cells, three step sizes with two seeds, and one seed or two at the end.
    assert found[0] == found[1] and 22 <= len(found[0]) <= 25


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--tasks", "digit"], "tasks must be one of digits, synthetic, cifar10"),
        (["--tasks", "cifar10"], "data_path must be a folder for task cifar10"),
        (["--num-seeds", "1"], "num_seeds must be finite and >= 2, got 1"),
        (["--max-minutes", "0"], "max_minutes must be > 0, got 0"),
        (["--enter", "detla"], r"methods must be rules or baselines, got 'detla'"),
    ],
)
def test_a_bad_command_line_is_one_line(monkeypatch, tmp_path, capsys, args, words):
    with pytest.raises(SystemExit) as error:
        call(monkeypatch, "--out", str(tmp_path / "x"), *args)
    said = capsys.readouterr().err
    assert error.value.code == 2 and words in said and said.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_page_of_another_origin_stays(board, monkeypatch, tmp_path, capsys):
    (tmp_path / "x.md").write_text("my notes")
    with pytest.raises(SystemExit):
        call(
            monkeypatch, "--tasks", "tiny", "--out", str(tmp_path / "x"),
            "--num-seeds", "2", "--jobs", "1",
        )  # fmt: skip
    assert "x.md must be new or a page of a leaderboard" in capsys.readouterr().err
    assert (tmp_path / "x.md").read_text() == "my notes"
