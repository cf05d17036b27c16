"""The folder of a sweep is described and drawn as a whole."""

import pytest

import fedasync_jax as fa
from fedasync_jax.cli import plot, summary
from fedasync_jax.cli.sweep_table import make_sweep_table

SMALL = {"num_clients": 8, "clients_per_round": 2, "concurrency": 4, "hidden": (8,)}
SMALL |= {"num_updates": 20, "eval_every": 10, "methods": ("fedasync-constant", "sgd")}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    for alpha, seed in ((0.3, 0), (0.3, 1), (0.9, 0)):
        path = folder / f"alpha-{alpha}" / f"seed-{seed}"
        fa.train(fa.make_settings(**SMALL, alpha=alpha, seed=seed, run_dir=path))
    return folder


def run(command, monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["fedasync x", *map(str, words)])
    command.main()
    return capsys.readouterr().out


def test_its_summary_has_every_run_and_the_means(swept, monkeypatch, capsys):
    lines = run(summary, monkeypatch, capsys, swept).splitlines()
    assert lines[0] == f"{swept}: 3 runs, 3 finished"
    assert lines[1].startswith("  alpha-0.3/seed-0: finished, FedAsync constant accur")
    assert ", SGD accuracy " in lines[3]
    table = [line.split() for line in lines[5:9]]
    assert [(row[0], row[-4] if "to" in row else row[-1]) for row in table]
    assert [row[0] for row in table] == ["alpha-0.3"] * 2 + ["alpha-0.9"] * 2
    assert "2 of 2" in lines[5] and lines[5].endswith("*")
    assert "1 of 1" in lines[7] and lines[7].endswith("-")
    assert lines[9] == "  accuracy on the test set, mean of the last ten evaluations"
    assert lines[10].startswith("  * of fewer than 3 runs")


def test_an_unfinished_run_is_told(swept, monkeypatch, capsys):
    table = swept / "alpha-0.9" / "seed-0" / "summary.json"
    content = table.read_bytes()
    table.unlink()
    lines = run(summary, monkeypatch, capsys, swept).splitlines()
    table.write_bytes(content)
    assert lines[0].endswith("3 runs, 2 finished")
    assert lines[3].startswith("  alpha-0.9/seed-0: not finished, ")
    assert lines[-1] == "  go on with the command that began it"


def test_several_folders_are_described_one_after_the_other(swept, monkeypatch, capsys):
    a_run = swept / "alpha-0.3" / "seed-0"
    out = run(summary, monkeypatch, capsys, a_run, swept)
    assert out.startswith(f"{a_run}: preset digits, digits\n")
    assert f"\n{swept}: 3 runs" in out


def test_it_is_drawn_with_a_panel_a_combination(swept, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    out = run(plot, monkeypatch, capsys, swept)
    assert out == f"wrote {swept / 'plots' / 'sweep.png'}\n"
    from fedasync_jax.plotting.sweep import draw_sweep_curves

    figure = draw_sweep_curves(swept)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "alpha-0.3",
        "alpha-0.9",
    ]
    two, one = figure.axes
    assert len(two.lines) == len(one.lines) == 2  # methods
    assert len(two.collections) == 2 and not one.collections  # bands of two seeds


@pytest.mark.parametrize("words", [[], ["--alpha"], ["."]])
def test_what_is_no_run_is_one_line(words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(summary, monkeypatch, capsys, *words)
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1


def test_enough_seeds_are_not_marked():
    row = {"method": "SGD", "gradients": 1, "metric": "test_accuracy_last_10"}
    row |= {"runs": 3, "n": 3, "mean": 0.9, "sd": 0.1, "low": 0.8, "high": 1.0}
    _, notes = make_sweep_table([row], [])
    assert len(notes) == 1
