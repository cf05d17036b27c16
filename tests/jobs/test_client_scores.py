"""How the final models serve every client: in results, folders, tables and metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax.cli.results import make_client_table
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.client_judge import make_client_judge
from fedasync_jax.jobs.callbacks import Callback
from fedasync_jax.jobs.client_scores import summarize_clients
from fedasync_jax.jobs.runner import Stopped
from fedasync_jax.jobs.training import run_settings
from fedasync_jax.storage import read_run
from fedasync_jax.worker import make_client_evaluate

SMALL = {"num_clients": 8, "clients_per_round": 2, "concurrency": 4, "hidden": (8,)}
SMALL |= {
    "num_updates": 40,
    "eval_every": 20,
    "methods": ("tethered:average=4", "fedavg"),
}
FIELDS = ("mean", "worst_tenth", "best_tenth", "std", "gini")


def small(**fields):
    return fa.make_settings(**{**SMALL, **fields})


@pytest.fixture(scope="module")
def results():
    return fa.train(small())


def test_scores_are_those_of_every_client_evaluated_alone(results):
    workload = results.experiment.workload
    x, y = (np.asarray(workload.clients.arrays[name]) for name in "xy")
    rows = np.split(workload.clients.indices, np.cumsum(workload.counts)[:-1])
    for method in results.values():
        scores = method.client_scores
        assert {a.shape for a in scores.values()} == {(8,)}
        for client, own in enumerate(rows):
            evaluate = fa.make_evaluate(workload.model, {"x": x[own], "y": y[own]})
            alone = evaluate(method.variables)
            assert scores["accuracy"][client] == pytest.approx(float(alone["correct"]))
            assert scores["loss"][client] == pytest.approx(float(alone["loss"]), 1e-4)


def test_the_table_says_how_they_are_spread(results):
    for row in results.table():
        scores = results[row["method"]].client_scores
        spread = fa.spread_over_clients(scores["accuracy"])
        for field, value in spread._asdict().items():
            assert row[f"client_accuracy_{field}"] == value
    table = make_client_table(results.table())
    assert table is not None and table.row_count == len(results)
    assert [column.header for column in table.columns][2] == "worst 10%"


def test_asked_for_always_every_evaluation_has_the_spread_and_nothing_else_changes(
    results,
):
    always = fa.train(small(evaluate_clients="always"))
    names = {f"client_accuracy_{field}" for field in FIELDS}
    for row, plain in zip(always.metrics(), results.metrics(), strict=True):
        assert row.keys() - plain.keys() == names
        assert {k: v for k, v in row.items() if k not in names} == plain
        assert row["client_accuracy_worst_tenth"] <= row["client_accuracy_mean"]
    for last in always.table():
        row = always[last["method"]].rows[-1]
        for name in names:
            assert row[name] == pytest.approx(last[name], abs=1e-6)


def test_never_is_never():
    results = fa.train(small(methods=("fedavg",), evaluate_clients="never"))
    assert results["FedAvg"].client_scores is None
    assert make_client_table(results.table()) is None
    assert not [name for name in results.table()[0] if name.startswith("client_")]


def test_a_run_that_was_stopped_comes_to_the_same_scores(tmp_path):
    settings = small(
        run_dir=tmp_path, methods=("fedasync-hinge",), evaluate_clients="always"
    )
    calls = []

    def should_stop():
        calls.append(1)
        return len(calls) == 2

    with pytest.raises(Stopped):
        run_settings(settings, run_dir=tmp_path, should_stop=should_stop)
    (method,) = read_run.read_metrics(tmp_path)
    assert read_run.read_client_scores(tmp_path, method) is None
    again = fa.train(settings)
    whole = fa.train(settings.replace(run_dir=None))
    assert again.metrics() == whole.metrics()
    read = read_run.read_client_scores(tmp_path, method)
    assert read is not None
    scores = whole[method].client_scores, again[method].client_scores
    assert scores[0] is not None
    np.testing.assert_equal(*scores)
    for name, values in scores[0].items():
        np.testing.assert_array_equal(read[name], values)
    assert read_run.read_metrics(tmp_path)[method] == whole.metrics()

    # It decides nothing of the results, so that it may change; what is old goes.
    longer = settings.replace(evaluate_clients="never", num_updates=60)
    fa.train(longer)
    assert read_run.read_client_scores(tmp_path, method) is None


def test_partitions_of_the_same_data_share_a_program():
    traced = []
    data = {"x": np.arange(12, dtype=np.float32)}

    def metrics(variables, batch):
        traced.append(1)
        total = batch["x"].sum()
        return {"loss": total, "count": jnp.float32(1)}

    def loss_fn(params, batch, key):
        return params["w"].sum()

    model = fa.models.make_model(lambda key: {"w": jnp.ones(1)}, loss_fn)
    model = model._replace(metrics=metrics)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        clients = fa.data.make_client_data(data, fa.data.iid(12, 3, rng=rng))
        variables = model.init(jax.random.key(0))
        found = make_client_evaluate(model, clients)(variables)
        expected = np.arange(12)[clients.indices].reshape(3, 4).mean(axis=1)
        np.testing.assert_allclose(found["loss"], expected)
    assert len(traced) == 1


# Models of one's own


def own_parts(metrics=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)).astype(np.float32)
    samples = {"x": x, "y": x @ np.array([1.0, -2.0], np.float32)}

    def loss_fn(params, batch, key):
        return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)

    model = fa.models.make_model(lambda key: {"w": jnp.zeros(2)}, loss_fn)
    if metrics:
        model = model._replace(metrics=metrics(model))
    clients = fa.data.make_client_data(samples, fa.data.iid(40, 8, rng=rng))
    return {"model": model, "clients": clients, "test": {**samples, "z": samples["y"]}}


@pytest.mark.parametrize("when", ["end", "always"])
def test_without_an_accuracy_the_loss_is_compared(when):
    settings = small(methods=("fedavg",), evaluate_clients=when, step_size=0.01)
    results = fa.train(settings, **own_parts())
    (row,) = results.table()
    scores = results["FedAvg"].client_scores
    assert scores is not None
    assert list(scores) == ["loss"]
    assert row["client_loss_worst_tenth"] == pytest.approx(scores["loss"].max())
    assert row["client_loss_worst_tenth"] > 1.1 * row["client_loss_best_tenth"] > 0.01
    assert row["client_loss_best_tenth"] == pytest.approx(scores["loss"].min())
    last = results["FedAvg"].rows[-1]
    assert ("client_loss_gini" in last) == (when == "always")
    for field in FIELDS if when == "always" else ():
        name = f"client_loss_{field}"
        assert last[name] == pytest.approx(row[name], rel=1e-4, abs=1e-6)


def _needs_z(model):
    return lambda variables, batch: model.metrics(variables, {**batch, "y": batch["z"]})


def test_a_model_that_cannot_judge_the_clients_data_is_not_lost():
    notes = []

    class Watch(Callback):
        def on_note(self, line):
            notes.append(line)

    parts = own_parts(_needs_z)
    results = fa.train(small(methods=("fedavg",)), **parts, callbacks=[Watch()])
    assert results["FedAvg"].client_scores is None
    (line,) = notes
    assert line.startswith("FedAvg has no scores by client: ") and "KeyError" in line
    with pytest.raises(ValueError, match=r"^evaluate_clients must be never .*KeyError"):
        fa.train(small(evaluate_clients="always"), **parts)


def test_scores_that_are_not_finite_have_no_spread():
    row = summarize_clients({"loss": np.array([1.0, np.nan])})
    assert set(row) == {f"client_loss_{field}" for field in FIELDS}
    assert set(row.values()) == {None}


def test_a_bad_value_is_one_line():
    with pytest.raises(ValueError, match=r"^evaluate_clients must be one of end, alwa"):
        small(evaluate_clients="sometimes")


def test_a_text_is_judged_in_small_pieces():
    """Of a text a sample is a whole window: so many tokens at a time, not samples."""
    built = build_experiment(small(methods=("fedavg",)))
    text = built.workload._replace(is_text=True)
    scores = make_client_judge(text)(built.variables)
    plain = make_client_judge(built.workload)(built.variables)
    assert list(scores) == ["loss"]
    np.testing.assert_allclose(scores["loss"], plain["loss"], rtol=1e-5)
