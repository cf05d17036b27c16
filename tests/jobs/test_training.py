"""One call from settings to results: the same as in a folder, and with own objects."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import run_script

import fedasync_jax as fa
from fedasync_jax.data.hold_out import hold_out
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.fleet.build import build_fleet
from fedasync_jax.jobs.job import Results
from fedasync_jax.storage import read_run

METHODS = ("fedasync-polynomial", "fedavg", "sgd")
SMALL = {"num_clients": 8, "clients_per_round": 2, "concurrency": 4, "hidden": (8,)}
SMALL |= {"num_updates": 40, "eval_every": 10, "methods": METHODS}


def small(**fields):
    return fa.make_settings(**{**SMALL, **fields})


@pytest.fixture(scope="module")
def results():
    return fa.train(small())


# The same as in a folder


def test_in_memory_or_in_a_folder_it_comes_to_the_same(results, tmp_path):
    kept = fa.train(small(run_dir=tmp_path / "run"))
    assert kept.metrics() == results.metrics()
    assert kept.run_dir == tmp_path / "run" and results.run_dir is None
    on_disk = read_run.read_metrics(tmp_path / "run")
    assert list(on_disk) == list(results) == list(kept)
    for name, rows in on_disk.items():
        assert rows == [dict(row) for row in results[name].outcome.rows]
        arrivals = read_run.read_updates(tmp_path / "run", name)
        assert arrivals is not None
        for column, values in results[name].arrivals.items():
            np.testing.assert_array_equal(arrivals[column], values)
    model = fa.load_model(tmp_path / "run" / "fedavg" / "model")
    for left, right in zip(
        *map(jax.tree.leaves, (model, results["FedAvg"].variables)), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_a_folder_is_that_of_the_command_and_goes_on(tmp_path):
    path = tmp_path / "run"
    fa.train(small(run_dir=path, methods=("fedavg",)))
    done = run_script("train.py", "--resume", path, "--num-updates", 60)
    assert done.returncode == 0, done.stderr
    longer = fa.train(small(num_updates=60, methods=("fedavg",), run_dir=path))
    assert longer["FedAvg"].metrics["version"].tolist() == [0, 10, 20, 30, 40, 50, 60]


def test_tables_are_plain_and_arrays_have_nan_for_none(results):
    table = results.table()
    assert [row["method"] for row in table] == list(results)
    json.dumps([table, results.metrics()])  # nothing but numbers, words and None
    metrics = results["SGD"].metrics
    assert np.isnan(metrics["updates"]).all()
    assert metrics["test_accuracy"].dtype == np.float64
    assert metrics["version"][0] == 0


def test_what_is_printed_of_results_is_short(results):
    shown = repr(results)
    assert len(shown) < 500 and "FedAvg  " in shown and "in memory" in shown
    assert len(repr(results["FedAvg"])) < 100
    outcomes = results.outcomes
    assert len(repr(outcomes)) < 500
    assert len(repr(Results(outcomes, results.table(), ["one diverged"]))) < 600
    assert len(repr(outcomes[0].result)) < 200
    assert results._repr_html_().count("<tr>") == 1 + len(METHODS)


def test_it_is_silent_unless_it_is_asked(capfd, monkeypatch):
    settings = small(methods=("fedavg",))
    fa.train(settings)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a notebook
    fa.train(settings, progress=True)
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith("FedAvg  40/40  accuracy ") and "\x1b" not in line


def test_an_unknown_method_is_told_what_there_is(results):
    with pytest.raises(KeyError, match="methods are FedAsync"):
        results["FedSGD"]


def test_pictures_are_figures_the_same_as_of_a_folder(results, tmp_path):
    pytest.importorskip("matplotlib")
    from fedasync_jax import plotting
    from fedasync_jax.plotting import contents

    path = tmp_path / "run"
    fa.train(small(run_dir=path))
    figures, of_folder = (plotting.make_figures(run) for run in (results, path))
    assert list(figures) == list(of_folder)
    assert {"accuracy", "staleness", "timeline", "labels"} <= set(figures)
    assert all(figure.axes for figure in figures.values())
    mine, read = contents.take_contents(results), contents.read_contents(path)
    for left, right in zip(mine, read, strict=True):
        np.testing.assert_equal(left, right)
    figure = plotting.make_comparison({"here": results, "there": path})
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["here", "there"]


# Objects in the place of names


def test_own_data_model_fleet_and_rule_equal_those_of_the_settings(results):
    settings = small()
    built = build_experiment(settings)
    mine = fa.train(
        settings,
        model=built.workload.model,
        data=fa.data.load_digits(),
        fleet=build_fleet(settings.fleet, 8, settings.make_rng),
        methods=[("mine", fa.mixing.fedasync(0.6, fa.staleness.polynomial(0.5)))],
    )
    known = results["FedAsync polynomial(0.5)"]
    np.testing.assert_array_equal(
        mine["mine"].arrivals["client"], known.arrivals["client"]
    )
    for name in ("alpha", "loss"):
        np.testing.assert_allclose(
            mine["mine"].arrivals[name], known.arrivals[name], rtol=1e-5
        )
    np.testing.assert_allclose(
        mine["mine"].metrics["test_loss"], known.metrics["test_loss"], rtol=1e-5
    )


def make_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    samples = {"x": x, "y": x @ np.array([1.0, -2.0, 3.0], np.float32)}

    def loss_fn(params, batch, key):
        return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)

    model = fa.models.make_model(lambda key: {"w": jnp.zeros(3)}, loss_fn)
    clients = fa.data.make_client_data(samples, fa.data.iid(300, 12, rng=rng))
    return {"model": model, "clients": clients, "test": samples}


def test_a_regression_has_a_loss_in_the_place_of_an_accuracy(tmp_path):
    own = make_regression()
    mine = fa.train(small(num_updates=200, run_dir=tmp_path / "run"), **own)
    assert mine.settings["num_clients"] == 12
    for row, method in zip(mine.table(), mine.values(), strict=True):
        assert "test_accuracy_mean" not in row and "target_accuracy" not in row
        assert row["test_loss_mean"] <= row["test_loss_max"] < 14
        assert method.metrics["test_loss"][-1] < 1e-4
        np.testing.assert_allclose(
            method.variables.params["w"], [1.0, -2.0, 3.0], atol=0.01
        )
    assert "loss " in repr(mine)
    pytest.importorskip("matplotlib")
    from fedasync_jax import plotting

    figure = plotting.make_figures(mine)["loss"]
    assert figure.axes[0].get_ylabel() == "Test loss"
    assert figure.axes[0].get_yscale() == "log"
    done = run_script("train.py", "--resume", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: resume must be a run without objects of your own"
    )
    assert "model, clients, test" in done.stderr
    again = fa.train(small(num_updates=200, run_dir=tmp_path / "run"), **own)
    assert again.metrics() == mine.metrics()


def test_steps_that_are_written_out_come_to_the_same():
    own = make_regression()
    settings = small(methods=("fedasync-constant",))
    plain, unrolled = (fa.train(settings, **own, unroll=u) for u in (False, True))
    assert unrolled.experiment.workload.unroll
    np.testing.assert_allclose(
        *(r["FedAsync constant"].metrics["test_loss"] for r in (plain, unrolled)),
        rtol=1e-5,
    )


def _fleet(count):
    return fa.make_fleet(count, rng=np.random.default_rng(0))


_DIGITS = fa.data.load_digits()
_RULE = fa.mixing.fedasync(0.6, fa.staleness.constant())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model must be given together with clients"),
        ({"test": None}, "test must be given together with clients"),
        ({"clients": None}, "test must be given together with clients, got no clients"),
        ({"data": _DIGITS}, "data must not be given together with clients"),
        ({"fleet": _fleet(11)}, "fleet must have the 12 clients of the data, got 11"),
        ({"fleet": 3}, "fleet must be made by fa.make_fleet, got int"),
        ({"model": lambda key: 0}, "model must be made by fa.models.make_model, got f"),
        ({"methods": []}, "methods must be one or more different names, got none"),
        ({"methods": ["sgd", ("sgd", _RULE)]}, "different names, got sgd sgd"),
        (
            {"methods": [("my rule", _RULE), ("My-Rule", _RULE)]},
            "names that differ in letters or digits, .* got my rule and My-Rule",
        ),
        ({"methods": [("FedAvg", _RULE), "fedavg"]}, "got FedAvg and FedAvg"),
        ({"methods": [("plots", _RULE)]}, "the folder of the pictures"),
        ({"methods": [("法", _RULE)]}, "must have a letter a-z or a digit in the"),
        ({"methods": [_RULE]}, "methods must be names, or pairs of a name and a rule"),
        ({"methods": ["fedsgd"]}, "methods must be rules or baselines, got 'fedsgd'"),
    ],
)
def test_objects_that_do_not_go_together_are_one_line(change, message):
    with pytest.raises(ValueError, match=message) as raised:
        fa.train(small(), **{**make_regression(), **change})
    assert "\n" not in str(raised.value)


def test_own_devices_that_lose_tasks_are_refused_without_a_clock():
    own, plugged_in = make_regression(), fa.fleet.availability.daily(0.0, 3600.0)
    line = (
        "fleet must have availability always() and failure_rate 0 for schedule "
        "sampled, which has no clock and loses no task of FedAsync, got {} (schedule "
        "immediate has one)"
    )
    for changes, got in (
        ({"failure_rate": 0.1}, "failure_rate 0.1"),
        ({"availability": plugged_in}, "another availability"),
        (
            {"availability": plugged_in, "failure_rate": 0.1},
            "another availability and failure_rate 0.1",
        ),
    ):
        fleet = _fleet(12)._replace(**changes)
        with pytest.raises(ValueError) as raised:
            fa.train(small(schedule="sampled", max_staleness=2), **own, fleet=fleet)
        assert str(raised.value) == line.format(got)
    harmless = _fleet(12)
    assert fa.train(small(schedule="sampled", max_staleness=2), **own, fleet=harmless)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": _DIGITS.x_train[1:]}, "x_train and y_train must have one length"),
        ({"y_test": _DIGITS.y_test + 1}, "y_test must hold whole numbers in 0..9"),
        ({"x_test": _DIGITS.x_test.astype(object)}, "x_test must be an array of numb"),
        ({"x_train": _DIGITS.x_train * np.nan}, "x_train must be finite"),
    ],
)
def test_own_data_that_are_bad_are_one_line(change, message):
    with pytest.raises(ValueError, match=message):
        fa.train(small(), data=_DIGITS._replace(**change))


def test_a_share_of_own_data_is_held_out_as_of_a_named_set():
    settings = small(valid_share=0.2, plateau_factor=0.5, methods=("fedavg",))
    (named,) = fa.train(settings).values()
    (mine,) = fa.train(settings, data=_DIGITS).values()
    assert mine.metrics["valid_loss"].tolist() == named.metrics["valid_loss"].tolist()
    assert mine.metrics["step_size"].tolist() == named.metrics["step_size"].tolist()


def test_validation_samples_of_own_data_are_used():
    held = hold_out(_DIGITS, 0.2)
    (mine,) = fa.train(small(methods=("fedavg",)), data=held).values()
    assert np.isfinite(mine.metrics["valid_loss"]).all()


@pytest.mark.parametrize(
    ("own", "settings", "message"),
    [
        (
            make_regression(),
            {"valid_share": 0.2},
            r"^valid_share must be 0 for clients of your own, got 0\.2$",
        ),
        (
            {"data": hold_out(_DIGITS, 0.2)},
            {"valid_share": 0.2},
            r"^valid_share must be 0 for data that have validation samples, got 0\.2$",
        ),
        (
            make_regression(),
            {"plateau_factor": 0.5, "dataset": "wikitext2"},
            "^plateau_on must be test for clients of your own, got validation$",
        ),
        (
            {"data": _DIGITS},
            {"plateau_factor": 0.5, "dataset": "wikitext2"},
            "^plateau_on must be test for data without validation samples of your own",
        ),
    ],
)
def test_validation_samples_that_cannot_be_had_are_refused(own, settings, message):
    if "dataset" in settings:  # it would have some, and is not what is learned
        texts = {"model": "lstm", "partition": "natural", "batch_size": 1}
        settings = {**texts, **settings}
    with pytest.raises(ValueError, match=message):
        fa.train(small(methods=("fedavg",), **settings), **own)


def test_unroll_is_for_an_own_model():
    with pytest.raises(ValueError, match="unroll must be given together with a model"):
        fa.train(small(), unroll=True)
