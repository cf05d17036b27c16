"""Workloads and methods as the settings say: images and texts, small but whole."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedasync_jax.experiment.build import build_experiment, build_workload
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs import report, runner

NUM_TYPES = 40


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    """Write 80 training and 20 test images of random bytes."""
    folder = tmp_path_factory.mktemp("cifar10")
    rng = np.random.default_rng(0)
    numbers = {"train": 80, "test": 20}
    arrays: dict[str, Any] = {
        f"x_{k}": rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
        for k, n in numbers.items()
    }
    arrays |= {f"y_{k}": rng.integers(0, 10, n) for k, n in numbers.items()}
    np.savez(folder / "cifar10.npz", **arrays)
    return folder


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    folder = tmp_path_factory.mktemp("play")
    words = "the quality of mercy is not strained it droppeth as the gentle rain"
    speeches = [
        f"{name}:\n" + "\n".join([words] * lines)
        for name, lines in (("ANNA", 40), ("BEN", 30), ("CLEO", 20))
    ]
    (folder / "input.txt").write_text("\n\n".join(speeches) + "\n")
    return folder


def make_small(preset, folder, **overrides):
    small = {
        "cifar10-paper": {
            "num_clients": 4,
            "clients_per_round": 2,
            "batch_size": 10,
            "cnn_channels": (2, 3),
            "cnn_hidden": 4,
            "num_updates": 4,
            "eval_every": 2,
            "warmup_epochs": 1,
            "alpha_drop_at": 2,
        },
        "shakespeare": {
            "num_clients": 3,
            "concurrency": 2,
            "clients_per_round": 2,
            "window": 20,
            "lstm_size": 8,
            "batch_size": 4,
            "num_updates": 20,
            "eval_every": 10,
        },
    }[preset]
    return make_settings(preset, data_path=folder, **{**small, **overrides})


def run_all(settings):
    built = build_experiment(settings)
    return built, [runner.run_method(built, method) for method in built.methods]


def test_the_papers_cifar10_end_to_end(cifar10):
    settings = make_small("cifar10-paper", cifar10)
    built, outcomes = run_all(settings)
    workload = built.workload
    assert workload.clients.arrays["x"].dtype == np.uint8
    assert workload.clients.arrays["x"].shape[1:] == (24, 24, 3)
    assert workload.unroll and workload.large_tasks  # on a CPU
    assert np.array_equal(workload.steps, [2] * 4)  # 20 images, batches of 10
    assert {outcome.rows[-1]["gradients"] for outcome in outcomes} == {8}
    hinge = next(o for o in outcomes if "hinge" in o.method.name)
    constant = next(o for o in outcomes if "constant" in o.method.name)
    np.testing.assert_allclose(constant.result.updates.alpha, [0.6, 0.6, 0.3, 0.3])
    # No arrival is later than 3 versions, so hinge(10, 4) is the constant.
    for left, right in zip(
        jax.tree.leaves(hinge.result.state.variables),
        jax.tree.leaves(constant.result.state.variables),
        strict=True,
    ):
        np.testing.assert_array_equal(left, right)
    assert [row["version"] for row in constant.rows] == [0, 2, 4]
    assert constant.rows[0]["test_loss"] > 0 and "valid_loss" not in constant.rows[0]


def test_the_warm_up_is_plain_sgd_over_the_first_client_only(cifar10):
    cold = make_small("cifar10-paper", cifar10, warmup_epochs=0, methods=("sgd",))
    x_0 = build_experiment(cold).variables
    for epochs in (1, 2):
        warm = cold.replace(warmup_epochs=epochs, warmup_step_size=0.02)
        workload = build_workload(warm)
        plain = warm.replace(step_size=0.02, rho=0.0)
        worker, expected = make_worker(plain.worker, workload), x_0
        for task in range(epochs):
            key = jax.random.fold_in(warm.make_key("warmup"), task)
            train = jax.jit(worker, static_argnums=3)
            expected, _ = train(expected, np.int32(0), key, 2)
        found = build_experiment(warm).variables
        for left, right in zip(
            jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4)
        moved = found.params["Dense_1"]["bias"] - x_0.params["Dense_1"]["bias"]
        assert np.abs(moved).max() > 1e-4


def test_a_larger_batch_of_sgd_counts_as_more_gradients(cifar10):
    settings = make_small(
        "cifar10-paper",
        cifar10,
        methods=("sgd",),
        sgd_batch_size=20,
        sgd_step_size=2.0,
        warmup_epochs=0,
    )
    _, (outcome,) = run_all(settings)
    trace = outcome.method.trace
    assert trace.num_steps.sum() == 4  # 8 gradients of batch 10
    assert outcome.rows[-1]["gradients"] == 8
    assert np.array_equal(trace.client, np.arange(trace.num_updates))


def test_steps_that_differ_or_are_many_are_not_written_out(cifar10):
    for overrides in ({"epochs": None, "max_steps": 7}, {"epochs": 20.0}):
        settings = make_small("cifar10-paper", cifar10, **overrides)
        assert not build_workload(settings).unroll
    asked = make_small("cifar10-paper", cifar10, convolution="patches")
    assert not build_workload(asked).unroll


def test_clients_are_speakers_and_perplexity_falls(play):
    settings = make_small("shakespeare", play, methods=("fedasync-polynomial", "sgd"))
    built, outcomes = run_all(settings)
    assert built.workload.is_text
    assert len(built.workload.counts) == 3 and len(set(built.workload.counts)) == 3
    for outcome in outcomes:
        first, last = outcome.rows[0], outcome.rows[-1]
        assert last["test_perplexity"] < 0.8 * first["test_perplexity"]
        assert last["test_perplexity"] == pytest.approx(np.exp(last["test_loss"]))
        summary = report.summarize(outcome)
        assert summary["test_perplexity_max"] >= summary["test_perplexity_mean"]


def test_the_step_size_falls_with_the_plateau_by_version_or_at_once(play):
    by_version, at_once = (
        run_to_a_plateau(play, applies) for applies in ("by-version", "at-once")
    )
    assert by_version[10] == at_once[10]  # nothing has fallen before
    assert by_version[20] != at_once[20]


def run_to_a_plateau(play, applies):
    """Return the test loss by version of a run whose step size falls."""
    settings = make_small(
        "shakespeare",
        play,
        methods=("fedasync-constant",),
        schedule="sampled",
        plateau_applies=applies,
        step_size=1000.0,  # so that it does not get better
        clip_norm=None,
        plateau_factor=0.5,
        plateau_on="test",
        num_updates=30,
    )
    _, (outcome,) = run_all(settings)
    losses = [row["test_loss"] for row in outcome.rows]
    expected, best = [settings["step_size"]], losses[0]
    for loss in losses[1:]:
        expected.append(expected[-1] * (1.0 if loss < best else 0.5))
        best = min(best, loss)
    assert [row["step_size"] for row in outcome.rows] == expected
    assert expected[1] < expected[0]
    return {row["version"]: row["test_loss"] for row in outcome.rows}


def test_wikitext2_is_dealt_in_batches_and_judged_on_validation(tmp_path, monkeypatch):
    from fedasync_jax.data.text import wikitext2 as text

    lengths = {"train": 2000, "valid": 300, "test": 400}
    rng = np.random.default_rng(0)
    for split, length in lengths.items():
        words = [f"w{i}" for i in rng.permutation(NUM_TYPES - 1)]
        words += [f"w{i}" for i in rng.integers(0, 5, length - NUM_TYPES)]
        (tmp_path / f"{split}.txt").write_text(" ".join(words) + "\n")
    monkeypatch.setattr(text, "_NUM_TOKENS", lengths)
    monkeypatch.setattr(text, "_NUM_TYPES", NUM_TYPES)
    settings = make_settings(
        "wikitext2-paper",
        data_path=tmp_path,
        text_columns=4,
        bptt=5,
        num_clients=10,
        lstm_size=6,
        clients_per_round=2,
        num_updates=6,
        eval_every=3,
        methods=("fedasync-hinge", "fedavg", "sgd"),
    )
    built, outcomes = run_all(settings)
    num_batches = (2000 // 4 - 1) // 5
    assert built.workload.counts.sum() == num_batches
    assert set(built.workload.counts) == {num_batches // 10, num_batches // 10 + 1}
    for outcome in outcomes:
        first, last = outcome.rows[0], outcome.rows[-1]
        assert last["valid_loss"] < first["valid_loss"]
        assert last["valid_loss"] != last["test_loss"]


@pytest.mark.parametrize(
    ("preset", "content"),
    [("wikitext2-small", "train, valid and test .txt"), ("shakespeare", "input.txt")],
)
def test_texts_need_a_folder_and_say_what_it_holds(preset, content):
    with pytest.raises(ValueError, match=rf"\(--data-path\) .* with {content}"):
        build_workload(make_settings(preset))


def test_the_order_is_clip_decay_proximal_term_step():
    """A step from x_received twice: the second sees the proximal term."""
    settings = make_settings(
        clip_norm=0.1,
        weight_decay=0.5,
        step_size=0.3,
        num_steps=2,
        num_clients=1,
        clients_per_round=1,
        concurrency=1,
        partition="iid",
        batch_size=1437,  # a whole pass, so that the order of samples is no matter
        methods=("sgd",),
    )
    workload = build_workload(settings)
    variables = workload.model.init(jax.random.key(0))
    rho = 0.7
    worker = make_worker(settings.worker, workload, rho=rho)
    local, _ = worker(variables, jnp.int32(0), jax.random.key(1), 2)
    batch = workload.clients.arrays

    def grad(params):
        def loss_fn(params):
            return workload.model.loss(
                variables._replace(params=params), batch, jax.random.key(0)
            )[0]

        grads = jax.grad(loss_fn)(params)
        norm = optax.tree.norm(grads)
        assert norm > 0.1  # or clipping would show nothing
        return jax.tree.map(lambda g: g * 0.1 / norm, grads)

    x, received = variables.params, variables.params
    for _ in range(2):
        x = jax.tree.map(
            lambda x, g, a: x - 0.3 * (g + 0.5 * x + rho * (x - a)),
            x,
            grad(x),
            received,
        )
    for left, right in zip(
        jax.tree.leaves(local.params), jax.tree.leaves(x), strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_labels_from_one_on_are_noted(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(1, 4, 60)
    y[:3] = 1, 2, 3
    x = rng.normal(size=(60, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    settings = make_settings(
        dataset="npz",
        data_path=tmp_path / "a.npz",
        num_clients=3,
        concurrency=2,
        clients_per_round=2,
    )
    assert "note: the lowest label is 1" in build_workload(settings).description
