"""What large staleness costs: the runs that tell, and what is told of them."""

from pathlib import Path

import numpy as np
import pytest

from reproduction.figures import (
    Cell,
    list_cells,
    make_figures,
    make_point,
)
from reproduction.runs import find_runs
from reproduction.scales import SCALES
from reproduction.why import (
    LONGER,
    delta_cell,
    list_own_cells,
    list_why_cells,
    paper_cell,
    pulled_cell,
    read_ends,
)
from reproduction.why_page import draw_why, explain_why

MICRO = SCALES["micro"]
FEDAVG = Cell("cifar", "fedavg")


def _make(cell):
    return make_point(cell, MICRO, 337, Path("out"), None)


def test_the_runs_differ_in_what_is_asked():
    paper, longer = _make(paper_cell(16)), _make(paper_cell(16)._replace(factor=LONGER))
    assert paper.settings["alpha_drop_at"] == longer.settings["alpha_drop_at"] == 800
    assert longer.settings["num_updates"] == LONGER * paper.settings["num_updates"]
    pulled = _make(pulled_cell(50, 0.1)).settings
    assert pulled["alpha"] == 0.1 and pulled["alpha_drop_at"] is None
    assert pulled["max_staleness"] == 50
    free = _make(delta_cell(50, 0.1)).settings
    assert free.run.methods == ("delta:step=0.1",) and free["max_staleness"] == 50
    same = ("seed", "schedule", "num_clients", "step_size", "rho", "epochs")
    assert [pulled[n] for n in same] == [free[n] for n in same]
    assert _make(FEDAVG).settings["eval_every"] == 10 < pulled["eval_every"]


@pytest.mark.parametrize("scale", ["paper", "small", "micro"])
def test_own_runs_can_be_made_at_every_scale(scale):
    for cell in list_own_cells():
        settings = make_point(cell, SCALES[scale], 337, Path("out"), None).settings
        assert settings["eval_every"] >= 50


def test_own_runs_belong_to_no_figure_and_have_folders_of_their_own(tmp_path):
    of_figures = list_cells(list(make_figures(MICRO).values()))
    own = list_own_cells()
    assert not set(own) & set(of_figures)
    assert set(list_why_cells()) - set(own) <= set(of_figures)
    names = [cell.name for cell in [*of_figures, *own]]
    assert len(names) == len(set(names))
    assert find_runs("micro", tmp_path, (337,)) == []
    for cell in own:
        (tmp_path / cell.name / "seed-337").mkdir(parents=True)
    assert [cell for cell, _, _ in find_runs("micro", tmp_path, (337,))] == own


def _records(ends, seeds=(1, 2, 3)):
    """Return runs that end at a value, whatever comes before the last quarter."""
    return [
        {
            "cell": cell._asdict(),
            "seed": seed,
            "finished": True,
            "gradients": [0, 100, 200, 300, 400],
            "value": [0.1, 0.9, 0.9, 0.9, end + 0.001 * seed],
        }
        for cell, end in ends.items()
        for seed in seeds
    ]


ENDS = {
    **dict.fromkeys(list_why_cells(), 0.30),
    FEDAVG: 0.50,
    FEDAVG._replace(factor=LONGER): 0.55,
    paper_cell(16): 0.44,
    paper_cell(16)._replace(factor=LONGER): 0.53,
    pulled_cell(16, 0.9): 0.43,
    pulled_cell(16, 0.3): 0.48,
    delta_cell(16, 0.1): 0.51,
}


def test_ends_are_means_of_the_last_quarter():
    ends = read_ends(_records(ENDS))
    assert ends[FEDAVG] == pytest.approx({1: 0.501, 2: 0.502, 3: 0.503})
    few = [r for r in _records(ENDS) if (r["seed"], r["cell"]["method"]) != (2, "sgd")]
    assert list(read_ends(few)[FEDAVG]) == [1, 3]
    none = [r for r in _records(ENDS) if r["cell"]["method"] != "sgd"]
    assert read_ends(none) == {}


def test_what_each_suspect_is_worth(tmp_path):
    records = _records(ENDS)
    text = "\n".join(explain_why(records, "why.png"))
    line = next(part for part in text.splitlines() if "Max staleness 16" in part)
    assert "ends -6.0 points" in line
    assert "leaving out the halving -1.0 points" in line
    assert f"{LONGER} times as long +4.0 points" in line  # -2 of FedAvg as long
    assert "a smaller alpha (0.3 throughout) +4.0 points" in line
    assert "no pull (delta rule, step 0.1) +7.0 points" in line
    assert "3 seeds" in text and "(why.png)" in text
    path = draw_why(records, tmp_path)
    assert path is not None and path.read_bytes()[:4] == b"\x89PNG"
    assert draw_why(records[:5], tmp_path) is None
    assert list(explain_why(records[:5], "why.png")) == []


def test_noise_shows_in_the_intervals():
    rng = np.random.default_rng(0)
    records = _records(ENDS)
    for record in records:
        record["value"][-1] += rng.normal(0, 0.01)
    text = "\n".join(explain_why(records, "why.png"))
    assert " to " in text and "nan" not in text
