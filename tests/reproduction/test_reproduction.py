"""The paper's figures and findings: which runs, what they decide, what is written."""

import json
import operator
import re
from pathlib import Path

import numpy as np
import pytest

from fedasync_jax.jobs import runner, sweep
from fedasync_jax.storage.read_run import read_metrics
from reproduction import why
from reproduction.evidence import (
    Evidence,
    compare_exactly,
    make_evidence,
    make_results,
)
from reproduction.figures import (
    Cell,
    list_cells,
    make_figures,
    make_point,
)
from reproduction.measures import Measures
from reproduction.merge import merge_results
from reproduction.page import write_document
from reproduction.runs import find_end, find_runs, keep_length
from reproduction.scales import SCALES, Scale
from reproduction.seeds import tell_seeds

DOCS = Path(__file__).parents[2] / "docs"
PAPER = SCALES["paper"]

# The runs


def test_a_figure_has_all_methods_at_both_alphas():
    for name in ("cifar-staleness-4", "cifar-staleness-16", "wikitext-4"):
        figure = make_figures(PAPER)[name]
        cells = figure.cells()
        assert len(cells) == len(set(cells)) == 2 + 3 * 2
        assert [cell.method for cell in cells[:2]] == ["fedavg", "sgd"]


def test_baselines_are_shared_between_figures():
    figures = make_figures(PAPER)
    cells = list_cells(
        [figures[name] for name in ("cifar-staleness-4", "cifar-staleness-16")]
    )
    assert len(cells) == 2 + 6 + 6


def test_a_hinge_that_is_the_constant_is_not_swept_twice():
    sweep_figure = make_figures(PAPER)["cifar-sweep"]
    cells = sweep_figure.cells()
    # 10 stalenesses, of which 2 and 4 have no arrival beyond b = 4: d <= 3.
    assert len(cells) == 2 + 10 * 3 - 2
    assert sweep_figure.cell("fedasync-hinge", 4, 0.9).method == "fedasync-constant"
    assert sweep_figure.cell("fedasync-hinge", 6, 0.9).hinge == (4.0, 4.0)
    plain = make_figures(PAPER)["cifar-staleness-4"]
    assert plain.cell("fedasync-hinge", 4, 0.9).hinge == (10.0, 4.0)


def test_the_settings_of_the_paper():
    figures = make_figures(PAPER)
    cell = figures["cifar-staleness-16"].cell("fedasync-hinge", 16, 0.9)
    settings = make_point(cell, PAPER, 337, Path("out"), None).settings
    assert (settings["max_staleness"], settings["alpha"], settings["seed"]) == (
        16,
        0.9,
        337,
    )
    assert (settings["hinge_a"], settings["hinge_b"]) == (10.0, 4.0)
    assert (settings["num_updates"], settings["eval_every"]) == (2000, 10)
    assert (settings["alpha_drop_at"], settings["alpha_drop"]) == (800, 0.5)
    assert settings["step_size"] * settings.worker.proximal_weight == pytest.approx(
        0.005
    )
    for staleness, b in ((4, 2.0), (16, 4.0)):
        figure = figures[f"wikitext-{staleness}"]
        cell = figure.cell("fedasync-hinge", staleness, 0.4)
        settings = make_point(cell, PAPER, 1, Path("out"), None).settings
        assert (settings["hinge_a"], settings["hinge_b"]) == (10.0, b)
        assert settings["num_updates"] == 4000
    assert SCALES["paper"].sweep == (2, 4, 6, 8, 12, 16, 20, 30, 40, 50)
    assert set(SCALES["small"].seeds) <= {337, 773, 557, 755}


def test_every_run_has_a_folder_of_its_own():
    for scale in SCALES.values():
        cells = list_cells(list(make_figures(scale).values()))
        points = [
            make_point(cell, scale, s, Path("o"), None)
            for cell in cells
            for s in (1, 2)
        ]
        assert len({point.path for point in points}) == len(points)


# What is measured


def test_curves_are_compared_at_equal_gradients():
    sgd, fedavg = Cell("cifar", "sgd"), Cell("cifar", "fedavg")
    records = [
        {
            "cell": cell._asdict(),
            "seed": 0,
            "finished": True,
            "is_text": False,
            "gradients": gradients,
            "value": value,
        }
        for cell, gradients, value in (
            (sgd, [0, 450], [0.0, 0.9]),
            (fedavg, [0, 250, 440], [0.0, 0.2, 0.3]),
        )
    ]
    evidence = make_evidence(records, [sgd, fedavg])
    assert evidence is not None and evidence.gradients.tolist() == [0, 250, 440]
    assert evidence.curves[sgd][0] == pytest.approx([0.0, 0.5, 0.88])
    assert evidence.curves[fedavg][0].tolist() == [0.0, 0.2, 0.3]


def test_measures_by_hand():
    one, other = Cell("cifar", "sgd"), Cell("cifar", "fedavg")
    evidence = Evidence(
        is_text=False,
        gradients=np.array([0, 10, 20, 30]),
        curves={
            one: np.array([[0.0, 0.4, 0.6, 1.0]]),
            other: np.array([[0.0, 0.2, 0.8, 0.6]]),
        },
        whole={one: np.array([True]), other: np.array([False])},
        seeds=[0],
    )
    measures = Measures(evidence)
    assert measures.final(one) == pytest.approx([1.0])
    assert measures.mean(one) == pytest.approx([0.5])
    assert measures.half(one) == pytest.approx([0.8])
    assert measures.distance(one, other) == pytest.approx([0.2])
    assert np.isnan(measures.roughness(one)).all()  # two evaluations
    for target, gradients in ((0.2, 5.0), (0.5, 15.0), (1.0, 30.0), (2.0, 30.0)):
        reached = measures.gradients_to(one, np.array([target]))
        assert reached == pytest.approx([gradients])
    assert not measures.have(one, Cell("cifar", "fedprox"))


def test_roughness_by_hand():
    one, other = Cell("cifar", "sgd"), Cell("cifar", "fedavg")
    evidence = Evidence(
        is_text=False,
        gradients=np.arange(8),
        curves={
            one: np.array([[9.0, 0.0, 9.0, 0.0, 0.1, 0.2, 0.4, 0.3], np.arange(8.0)]),
            other: np.array([[0.0] * 8, [0.0] * 8]),
        },
        whole={one: np.array([True, True]), other: np.array([True, False])},
        seeds=[0, 1],
    )
    measures = Measures(evidence)
    assert measures.roughness(one) == pytest.approx([0.2, 0.0])
    assert measures.roughness(other) == pytest.approx([0.0, np.nan], nan_ok=True)


# From runs to the page


@pytest.fixture(scope="module")
def tiny():
    """A scale that is smaller than small."""
    scale = Scale(
        presets={"cifar": "digits", "text": "shakespeare"},
        changes={
            "cifar": {
                "schedule": "sampled",
                "num_clients": 12,
                "clients_per_round": 4,
                "num_updates": 40,
                "eval_every": 4,
                "hidden": (8,),
            },
            "text": {},
        },
        names={"cifar": "Digits", "text": "nothing"},
        differences={"cifar": ("It is tiny.",), "text": ("It is not run.",)},
        sweep=(2, 4, 16, 20),
        seeds=(1, 2),
    )
    SCALES["tiny"] = scale  # pyright: ignore[reportIndexIssue]
    yield scale
    del SCALES["tiny"]  # pyright: ignore[reportIndexIssue]


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    """Results of real runs of it."""
    out = tmp_path_factory.mktemp("runs")
    cells = list_cells([f for f in make_figures(tiny).values() if f.data == "cifar"])
    runs = [
        (cell, seed, make_point(cell, tiny, seed, out, None))
        for seed in tiny.seeds
        for cell in cells
    ]
    piece = {
        "runs": 2,
        "updates": 600,
        "seconds": 50.0,
        "first_seconds": 10.0,
        "hardware": {
            "cpu_model": "Abacus",
            "cores": 2,
            "devices": ["cpu", "cpu"],
            "platform": "cpu",
        },
    }
    assert make_results("tiny", runs, [])["runs"] == []
    assert len(
        list(
            sweep.run_points(
                [point for _, _, point in runs], {"versions": {"jax": "1"}}
            )
        )
    ) == len(runs)
    assert sorted(find_runs("tiny", out, (2, 1, 3))) == sorted(runs)
    assert {seed for _, seed, _ in find_runs("tiny", out, (2,))} == {2}
    return make_results("tiny", runs, [piece])


def _cells():
    figures = make_figures(SCALES["tiny"]).values()
    return list_cells([figure for figure in figures if figure.data == "cifar"])


def test_every_run_is_in_the_results(results):
    assert len(results["runs"]) == 2 * (2 + 6 + 6 + 2 + 1 + 3)
    assert all(record["finished"] for record in results["runs"])
    assert results["versions"] == [{"jax": "1"}]
    text = json.dumps(results)
    assert "data_path" not in text and "run_dir" not in text
    evidence = make_evidence(json.loads(text)["runs"], _cells())
    assert evidence is not None and evidence.seeds == [1, 2]
    assert evidence.gradients[-1] == 40 * 5
    for curves in evidence.curves.values():
        assert curves.shape == (2, len(evidence.gradients))
        assert np.isfinite(curves).all()
    assert make_evidence(results["runs"], [Cell("text", "sgd")]) is None


def _part(results, *seeds, **changes):
    runs = [run for run in results["runs"] if run["seed"] in seeds]
    settings = {"cifar": {**results["settings"]["cifar"], "seed": seeds[0]}}
    return {**results, "runs": runs, "settings": settings, **changes}


def test_seeds_are_added_to_those_that_are_there(results):
    one = _part(results, 1, pieces=["first"], central="known")
    other = _part(results, 2, pieces=["first", "second"], central=None)
    both = merge_results(one, other)
    key = operator.itemgetter("seed")
    assert both["runs"] == sorted(results["runs"], key=key)
    assert both["pieces"] == ["first", "second"]
    assert both["versions"] == results["versions"]
    assert both["central"] == "known"
    assert merge_results(both, other) == both


def test_of_two_results_of_a_run_the_new_one_counts(results):
    new = _part(results, 1)
    new["runs"] = [{**run, "num_updates": 50} for run in new["runs"]]
    lengths = {
        (r["seed"], r["num_updates"]) for r in merge_results(results, new)["runs"]
    }
    assert lengths == {(1, 50), (2, 40)}


def test_runs_with_other_settings_are_not_added(results):
    settings = {"cifar": {**results["settings"]["cifar"], "hidden": [9]}}
    with pytest.raises(ValueError, match="settings of today's scale tiny"):
        merge_results({**results, "settings": settings}, results)


def test_hinge_is_the_constant_bit_for_bit_where_nothing_is_stale(results):
    figures = make_figures(SCALES["tiny"])
    compared = compare_exactly(results["runs"], figures["cifar-staleness-4"])
    assert compared == [(a, s, True, 0.0) for a in (0.6, 0.9) for s in (1, 2)]
    compared = compare_exactly(results["runs"], figures["cifar-staleness-16"])
    assert [same for _, _, same, _ in compared] == [False] * 4


def test_a_run_that_ended_early_keeps_its_last_value(results):
    records = json.loads(json.dumps(results["runs"]))
    record = records[0]
    record["finished"] = False
    for name in ("gradients", "value"):
        record[name] = record[name][:3]
    evidence = make_evidence(records, _cells())
    assert evidence is not None
    cell = Cell("cifar", record["cell"]["method"])
    assert evidence.whole[cell].tolist() == [False, True]
    curve = evidence.curves[cell][0]
    assert len(curve) == 11 and (curve[2:] == record["value"][2]).all()


def test_longer_runs_are_cut_to_the_shortest(results):
    records = json.loads(json.dumps(results["runs"]))
    for name in ("gradients", "value"):
        records[0][name] = records[0][name][:5]
    evidence = make_evidence(records, _cells())
    assert evidence is not None and evidence.gradients[-1] == 16 * 5
    assert {curves.shape for curves in evidence.curves.values()} == {(2, 5)}
    others = [cell for cell in _cells() if cell.max_staleness is not None]
    evidence = make_evidence(records, others)
    assert evidence is not None and evidence.gradients[-1] == 40 * 5


def test_a_run_that_has_grown_counts_as_far_as_it_came(tiny, tmp_path):
    def point(num_updates):
        return make_point(cell, tiny, 1, tmp_path, None, num_updates)

    def find():
        (record,) = make_results("tiny", find_runs("tiny", tmp_path, (1,)), [])["runs"]
        assert record["finished"] and len(record["value"]) == len(record["gradients"])
        return record["num_updates"], record["gradients"][-1], record["model"]

    cell = Cell("cifar", "fedasync-polynomial", 4, 0.6)
    assert find_end(point(40)) is None
    assert keep_length(point(40)) == point(40)
    list(sweep.run_points([point(40)], {"versions": {}}))
    first = find()
    assert first[:2] == (40, 200)
    assert keep_length(point(20)) == point(40)
    assert keep_length(point(50)) == point(50)
    calls = iter([False] * 12)
    with pytest.raises(runner.Stopped):
        growing = sweep.run_points(
            [point(100)], {"versions": {}}, should_stop=lambda: not next(calls, None)
        )
        next(growing)
    rows = next(iter(read_metrics(point(40).path).values()))
    assert rows[-1]["version"] >= 40
    assert find() == first
    assert keep_length(point(20)) == point(40)
    assert keep_length(point(60)) == point(100)
    list(sweep.run_points([point(100)], {"versions": {}}))
    longer = find()
    assert longer[:2] == (100, 500) and longer[2] != first[2]
    other = point(100).settings.replace(rho=0.9)
    assert find_end(point(100)._replace(settings=other)) is None


def test_a_run_that_has_grown_and_ended_early_goes_on_flat(tiny, tmp_path):
    def find():
        (record,) = make_results("tiny", find_runs("tiny", tmp_path, (1,)), [])["runs"]
        return record["finished"], record["gradients"][-1]

    cell = Cell("cifar", "fedasync-polynomial", 4, 0.6)
    point = make_point(cell, tiny, 1, tmp_path, None, 40)
    list(sweep.run_points([point], {"versions": {}}))
    metrics = point.path / "metrics.jsonl"
    last = json.loads(metrics.read_text().splitlines()[-1])
    with metrics.open("a") as file:
        for version, rejected in ((44, 0), (48, 4)):
            more = {"version": version, "gradients": 5 * version, "rejected": rejected}
            file.write(json.dumps({**last, **more}) + "\n")
    assert find() == (False, 240)
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join(lines[:-1]) + "\n")
    assert find() == (True, 200)
    metrics.write_text("\n".join(lines[:-3]) + "\n")  # the end was taken back
    assert make_results("tiny", find_runs("tiny", tmp_path, (1,)), [])["runs"] == []


def test_texts_are_judged_by_their_loss(results):
    records = json.loads(json.dumps(results["runs"]))
    for record in records:
        record["is_text"] = True
        record["cell"]["data"] = "text"
    evidence = make_evidence(records, [Cell("text", "fedavg")])
    assert evidence is not None and evidence.is_text
    values = -np.array(records[0]["value"])
    assert (evidence.curves[Cell("text", "fedavg")][0] == values).all()


def test_the_page(results):
    figures = ["cifar-staleness-4", "cifar-sweep"]
    with_central = {
        **results,
        "central": {"accuracy": [0.4, 0.5], "seconds": 90.0, "seed": 1},
    }
    page = write_document([with_central], {"tiny": figures}, {1: "reproduction/f.png"})
    assert "1 minutes for 600 client updates" in page
    assert "* Digits, max staleness 4: 16 runs of 200 gradients, seeds 1, 2." in page
    assert "--figure cifar-staleness-4 --num-updates 40 --data-path" in page
    assert "* Digits, max staleness 2 to 20: " in page
    assert "40 updates in place of 2,000" in page
    assert "wikitext" not in page
    assert "![Digits, max staleness 4](reproduction/tiny/cifar-staleness-4.png)" in page
    assert "50.0% after 2 epochs" in page
    assert "Digits:\n\n* " in page and "* It is tiny." in page
    assert "It is not run." not in page
    assert page.count("| yes | 0 |") == 4
    for number in range(1, 7):
        assert re.search(rf"^\| {number} \| .*\*\*.*\*\*", page, re.MULTILINE)
    assert page.count("![finding ") == 1 and "(reproduction/f.png)" in page
    assert "nan" not in page


def test_the_page_tells_where_seeds_were_run(results):
    def is_run(record):
        cell = record["cell"]
        is_own = cell["max_staleness"] in (2, 20) or cell["hinge"] == (4.0, 4.0)
        return record["seed"] == 1 or not is_own

    records = [record for record in results["runs"] if is_run(record)]
    page = write_document([{**results, "runs": records}], {"tiny": []}, {})
    assert "max staleness 4: 16 runs of 200 gradients, seeds 1, 2." in page
    assert (
        "max staleness 2 to 20: 18 runs of 200 gradients, seed 1; seed 2 only at "
        "FedAvg, SGD, max staleness 4, max staleness 16 (2 of 3 curves)." in page
    )
    # The command of a figure has the seeds of the curves that are its alone.
    assert "--figure cifar-sweep --num-updates 40 --seeds 1 --data-path" in page
    assert "--figure cifar-staleness-4 --num-updates 40 --data-path" in page
    apart = [r for r in records if r["seed"] == 1 + (r["cell"]["method"] == "sgd")]
    assert tell_seeds(apart).startswith("seed 1 only at FedAvg, max staleness 2")
    assert tell_seeds(apart).endswith("; seed 2 only at SGD")


def test_the_page_tells_the_lengths_of_runs(results):
    records = json.loads(json.dumps(results["runs"]))
    for record in records:
        if record["cell"]["max_staleness"] == 4:
            record["num_updates"] = 60
            record["gradients"][-1] = 300
    records[0]["finished"] = False
    page = write_document([{**results, "runs": records}], {"tiny": []}, {})
    assert (
        "16 runs of 200 or 300 gradients, seeds 1, 2; 1 ended early, all arrivals "
        "rejected." in page
    )
    assert "--figure cifar-staleness-4 --num-updates 40 " in page
    assert "| `num_updates` | 40 or 60 |" in page
    page = write_document([{**results, "runs": records[:1]}], {"tiny": []}, {})
    assert "--num-updates" not in page


def test_the_page_compares_with_central_training_where_both_have_been(results):
    def show(**changes):
        records = [
            {**record, "num_updates": changes.get("num_updates", 24)}
            for record in results["runs"]
        ]
        central = {"accuracy": [0.4, 0.5, 0.6], "seconds": 90.0, "seed": 1}
        return write_document(
            [{**results, "runs": records, "central": central}], {"tiny": []}, {}
        )

    page = show()  # 12 clients: 24 updates are two epochs
    assert "50.0% after 2 epochs" in page
    records = [r for r in results["runs"] if r["cell"]["method"] == "sgd"]
    shown = ", ".join(f"{r['value'][-1]:.1%} (seed {r['seed']})" for r in records)
    assert f"seen as much: {shown}." in page
    page = show(num_updates=11)
    assert "60.0% after 3 epochs" in page and "seen as much" not in page


def test_the_page_in_the_repository_is_what_the_script_writes():
    files = sorted((DOCS / "reproduction").glob("*.json"))
    assert files, "docs/reproduction/ must hold a results file"
    many = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    pictures = {}
    for results in many:
        names = [*make_figures(SCALES[results["scale"]]), why.NAME]
        folder = DOCS / "reproduction" / results["scale"]
        pictures[results["scale"]] = [
            n for n in names if (folder / f"{n}.png").is_file()
        ]
    small = {
        number: f"reproduction/finding-{number}.png"
        for number in range(1, 7)
        if (DOCS / "reproduction" / f"finding-{number}.png").is_file()
    }
    page = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    assert page == write_document(many, pictures, small)


def test_the_cost_that_is_told_is_that_of_the_pieces():
    results = json.loads((DOCS / "reproduction" / "micro.json").read_text())
    minutes = {"CIFAR-10": 0.0, "WikiText-2": 0.0}
    for piece in results["pieces"]:
        assert piece["hardware"]["cores"] == 1
        is_text = piece["updates"] < 300 * piece["runs"]  # others have 2,000 or more
        name = "WikiText-2" if is_text else "CIFAR-10"
        minutes[name] += (piece["seconds"] + piece["first_seconds"]) / 60
    page = " ".join((DOCS / "experiments.md").read_text().split())
    for name, count in minutes.items():
        assert f"{count:.0f} core-minutes for {name}" in page
    without_why = sum(minutes.values()) - 60
    assert without_why / 2 / 60 == pytest.approx(4.5, abs=0.25)
    assert minutes["WikiText-2"] / 2 / 60 == pytest.approx(3, abs=0.25)
    assert "four and a half hours, three of them for WikiText-2" in page
