"""A run goes on only with what it began with; what differs is named."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax import tree
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs import sweep
from fedasync_jax.jobs.identity import identify, identify_settings
from fedasync_jax.jobs.job import run_job
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.fingerprint import Fingerprint, project
from fedasync_jax.storage.resume import check_goes_on
from fedasync_jax.storage.run_folder import RunFolder

_ORIGIN = {"versions": {"jax": "1"}, "revision": None, "devices": ["cpu", "cpu", 2]}


def write_data(path, turned=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    y = 1 - y if turned else y
    np.savez(path, x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])
    return path


def write_speeds(path, last=2.0):
    rows = [f"{client},{1 + client / 7}" for client in range(5)]
    lines = ["client,seconds_per_step", *rows, f"5,{last}"]
    path.write_text("\n".join(lines) + "\n")
    return path


def make_job(data, num_updates=20, **changes):
    settings = {
        "methods": ("fedasync-constant", "sgd"),
        "dataset": "npz",
        "data_path": data,
        "partition": "iid",
        "num_clients": 6,
        "concurrency": 3,
        "clients_per_round": 2,
        "num_updates": num_updates,
        "eval_every": 10,
        "checkpoint_every": 10,
        "hidden": (),
        **changes,
    }
    return make_settings(**settings)


def go(settings, path, **origin):
    built = build_experiment(settings)
    config = {"settings": settings.to_json(), **_ORIGIN, **origin}
    with RunFolder(path, config, identify(built)) as folder:
        return run_job(built, folder), folder.notes


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of 20 updates, its data and its fleet."""
    folder = tmp_path_factory.mktemp("begun")
    data, speeds = write_data(folder / "a.npz"), write_speeds(folder / "speeds.csv")
    settings = make_job(data, speeds_path=speeds)
    go(settings, folder / "run")
    return folder


def copy(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "copy")


def read_all(run):
    return {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_the_same_data_elsewhere_go_on(begun, tmp_path):
    here = copy(begun, tmp_path)
    moved = (here / "a.npz").rename(here / "b.npz")
    longer = make_job(moved, 40, speeds_path=here / "speeds.csv")
    results, notes = go(longer, here / "run")
    assert [o.result.state.version for o in results.outcomes] == [40, 4]
    assert notes == []
    whole, _ = go(longer, tmp_path / "whole")
    for one, other in zip(results.outcomes, whole.outcomes, strict=True):
        assert one.rows == other.rows
    begins = [s["begins"] for s in read_config(here / "run")["sittings"]]
    assert [list(sitting.values()) for sitting in begins] == [[0, 0], [20, 2]]


def turn_labels(here):
    write_data(here / "a.npz", turned=True)


def slow_down(here):
    write_speeds(here / "speeds.csv", last=0.01)


def edit_config(here):
    path = here / "run" / "config.json"
    path.write_text(path.read_text().replace('"alpha": 0.6', '"alpha": 0.9'))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (turn_labels, "run_dir must hold the same run, but .* has another data: "),
        (slow_down, "run_dir must hold the same run, but .* has another fleet: "),
        (edit_config, r"config\.json must be as the run wrote it, but its checksum"),
    ],
)
@pytest.mark.parametrize("num_updates", [20, 40])
def test_what_has_changed_is_refused_by_name(
    begun, tmp_path, damage, line, num_updates
):
    here = copy(begun, tmp_path)
    damage(here)
    before = read_all(here / "run")
    settings = make_job(here / "a.npz", num_updates, speeds_path=here / "speeds.csv")
    with pytest.raises(ValueError, match=line) as error:
        go(settings, here / "run")
    assert "\n" not in str(error.value)
    after = read_all(here / "run")
    assert {p.name for p in after.keys() - before.keys()} <= {".lock"}
    assert all(after[path] == content for path, content in before.items())
    point = sweep.Point(here / "run", settings)
    if damage is not edit_config:
        assert not sweep.is_finished(point)


def test_a_finished_run_of_the_same_inputs_is_finished(begun, tmp_path):
    here = copy(begun, tmp_path)
    settings = make_job(here / "a.npz", speeds_path=here / "speeds.csv")
    assert sweep.is_finished(sweep.Point(here / "run", settings))


def test_checkpoints_of_another_run_are_refused_and_the_config_stays(begun, tmp_path):
    here = copy(begun, tmp_path)
    other = make_job(here / "a.npz", seed=1, speeds_path=here / "speeds.csv")
    go(other, here / "other")
    for name in ("fedasync-constant", "sgd"):
        shutil.rmtree(here / "run" / name / "checkpoints")
        shutil.copytree(
            here / "other" / name / "checkpoints", here / "run" / name / "checkpoints"
        )
    before = (here / "run" / "config.json").read_bytes()
    longer = make_job(here / "a.npz", 40, speeds_path=here / "speeds.csv")
    line = "checkpoints must hold checkpoints of this run, but they have seed 1 instead"
    with pytest.raises(ValueError, match=line):
        go(longer, here / "run")
    assert (here / "run" / "config.json").read_bytes() == before


def test_a_run_made_by_an_earlier_version_goes_on(begun, tmp_path):
    """It has no fingerprint, no sittings and no checksum."""
    here = copy(begun, tmp_path)
    path = here / "run" / "config.json"
    config = json.loads(path.read_text())
    for name in ("fingerprint", "sittings", "sha256"):
        del config[name]
    path.write_text(json.dumps(config))
    settings = make_job(here / "a.npz", 40, speeds_path=here / "speeds.csv")
    with pytest.raises(ValueError, match=r"data_path must be .* to go on"):
        check_goes_on(here / "run", identify_settings(settings))
    same = make_job(begun / "a.npz", 40, speeds_path=begun / "speeds.csv")
    results, _ = go(same, here / "run")
    assert len(results.outcomes) == 2
    assert len(read_config(here / "run")["sittings"]) == 2


def _change(settings, of):
    """Return an experiment in which a model is another."""
    built = build_experiment(settings)
    return dataclasses.replace(built, **{of: tree.scale(getattr(built, of), 1.1)})


def test_another_initial_model_is_refused(begun, tmp_path):
    here = copy(begun, tmp_path)
    longer = make_job(here / "a.npz", 40, speeds_path=here / "speeds.csv")
    other = _change(longer, "initialized")
    config = {"settings": longer.to_json(), **_ORIGIN}
    with pytest.raises(ValueError, match="has another initial model: before any"):
        RunFolder(here / "run", config, identify(other)).__enter__()


def test_a_warm_up_that_ends_elsewhere_goes_on(begun, tmp_path):
    """Five epochs make differences of 5% of what two processors round otherwise."""
    here = copy(begun, tmp_path)
    longer = make_job(here / "a.npz", 40, speeds_path=here / "speeds.csv")
    other = _change(longer, "variables")
    config = {"settings": longer.to_json(), **_ORIGIN}
    with RunFolder(here / "run", config, identify(other)) as folder:
        results = run_job(other, folder)
    assert [o.result.state.version for o in results.outcomes] == [40, 4]


def test_other_software_and_devices_are_noted(begun, tmp_path):
    here = copy(begun, tmp_path)
    longer = make_job(here / "a.npz", 40, speeds_path=here / "speeds.csv")
    _, notes = go(
        longer, here / "run", versions={"jax": "2"}, devices=["H100", "gpu", 1]
    )
    assert notes == [
        "goes on with jax 2 instead of 1, 1 x H100 (gpu) instead of 2 x cpu (cpu): "
        "equal up to rounding, not bit for bit"
    ]
    assert read_config(here / "run")["versions"] == {"jax": "1"}  # what began it


def test_projections_tell_seeds_apart_but_not_roundings():
    rng = np.random.default_rng(0)
    one = {"w": rng.normal(size=(50, 30)).astype(np.float32)}
    other = {"w": rng.normal(size=(50, 30)).astype(np.float32)}
    near = {"w": one["w"] * np.float32(1 + 1e-4)}
    norm, *first = project(one)
    assert norm == pytest.approx(np.linalg.norm(one["w"]), rel=1e-5)
    assert np.abs(np.subtract(first, project(near)[1:])).max() < 1e-3 * norm
    assert np.abs(np.subtract(first, project(other)[1:])).max() > 0.5 * norm


def train_head(path, num_updates, seed):
    """Train the last layer of a network whose first one is frozen and random."""
    model = fa.models.make_classifier("mlp", (4,), 2, hidden=(3,))
    variables = model.init(jax.random.key(seed))
    frozen = fa.models.freeze(model, variables, lambda path: "Dense_0" in path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    samples = {"x": x, "y": (x[:, 0] > 0).astype(np.int32)}
    settings = make_settings(
        methods=("fedasync-constant",), num_updates=num_updates, run_dir=path
    )
    clients = fa.data.make_client_data(samples, fa.data.iid(60, 10, rng=rng))
    return fa.train(settings, model=frozen.model, clients=clients, test=samples)


def test_another_frozen_part_is_refused(tmp_path):
    train_head(tmp_path / "run", 10, seed=0)
    line = r"has another initial model: the arrays that are not trained"
    with pytest.raises(ValueError, match=line) as error:
        train_head(tmp_path / "run", 20, seed=1)
    assert "\n" not in str(error.value)
    longer = train_head(tmp_path / "run", 20, seed=0)
    assert longer["FedAsync constant"].outcome.result.state.version == 20


def test_a_frozen_part_that_was_not_written_down_is_not_compared():
    now = Fingerprint({}, frozen_part=project([np.ones(3)]))
    earlier = now.to_json()
    assert now.find_difference({**earlier, "frozen_part": project([])}) is not None
    del earlier["frozen_part"]
    assert now.find_difference(earlier) is None


def test_a_random_key_among_the_leaves_has_no_projection():
    weights = np.arange(3, dtype=np.float32)
    assert project([jax.random.key(0), weights]) == project([weights])
