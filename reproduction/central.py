"""Central training: the model on the pooled data, by a plain loop of optax.

It shares nothing with the engine but the model and the data, so it says what accuracy
they allow, and whether single-thread SGD in the engine is what it should be.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from fedasync_jax import models
from fedasync_jax.base import PyTree, Variables
from fedasync_jax.experiment.learned import Learned
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.experiment.workload import learn_images
from fedasync_jax.storage.models import load_model, read_about, remove_model, save_model


def count_epochs(settings: Settings) -> int:
    """Return how often the runs of these settings see every sample."""
    seen = settings.run.num_updates * (settings.worker.epochs or 1.0)
    return max(1, round(seen / settings.partition.num_clients))


def read_central(folder: Path) -> dict[str, Any] | None:
    """Return what ``train_centrally`` has come to so far; None if to nothing."""
    # Where it was stopped.
    newest = _find_newest(folder)
    about = None if newest is None else read_about(newest)
    return None if about is None else about["central"]


def train_centrally(
    settings: Settings,
    num_epochs: int,
    folder: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train, and write model and accuracy after every epoch; go on from the newest.

    Args:
      settings: of the experiment: batch and step size, weight decay, seed, data, model.
      num_epochs: passes over the train set, each in an order of its own.
      folder: to write to; one that holds a beginning has the same seed.
      should_stop: asked after every epoch.

    Raises:
      ValueError: if the data are bad or the folder was begun with another seed.

    Returns:
      ``accuracy`` after every epoch, ``seconds``, ``seed``.
    """
    record = read_central(folder) or {
        "accuracy": [],
        "seconds": 0.0,
        "seed": settings.run.seed,
    }
    if record["seed"] != settings.run.seed:
        raise ValueError(
            f"seed must be {record['seed']} to go on with the central training in "
            f"{folder}, got {settings.run.seed}"
        )
    if len(record["accuracy"]) >= num_epochs:
        return record
    # The same network on the same data as in the runs.
    problem = learn_images(
        settings.data,
        settings.partition,
        settings.model,
        models.choose_convolution(settings.model.convolution, jax.default_backend()),
    )
    train_epoch = _make_epoch(settings, problem)
    variables = problem.model.init(settings.make_key("init"))
    newest = _find_newest(folder)
    if newest is not None:
        variables = load_model(newest, variables)
    # Epoch by epoch; the newest model takes the place of the one before.
    for epoch in range(len(record["accuracy"]), num_epochs):
        begin = time.perf_counter()
        variables = train_epoch(variables, epoch)
        record["accuracy"].append(float(problem.evaluate(variables)["correct"]))
        record["seconds"] += time.perf_counter() - begin
        save_model(folder / f"epoch-{epoch + 1}", variables, {"central": record})
        if newest is not None:
            remove_model(newest)
        newest = folder / f"epoch-{epoch + 1}"
        if should_stop():
            break
    return record


def _make_epoch(
    settings: Settings, problem: Learned
) -> Callable[[Variables, int], Variables]:
    optimizer = optax.chain(
        optax.add_decayed_weights(settings.worker.weight_decay),
        optax.sgd(settings.worker.step_size),
    )
    num_samples, batch_size = len(problem.samples["y"]), settings.worker.batch_size

    @jax.jit
    def step(
        variables: Variables, samples: PyTree, rows: np.ndarray, key: jax.Array
    ) -> Variables:
        batch = jax.tree.map(lambda array: array[rows], samples)

        def loss_fn(params: PyTree) -> tuple[jax.Array, PyTree]:
            return problem.model.loss(variables._replace(params=params), batch, key)

        grads, state = jax.grad(loss_fn, has_aux=True)(variables.params)
        params = variables.params
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return Variables(optax.apply_updates(params, updates), state)

    def train_epoch(variables: Variables, epoch: int) -> Variables:
        order = np.random.default_rng([settings.run.seed, epoch]).permutation(
            num_samples
        )
        batches = order[: num_samples // batch_size * batch_size]
        key = jax.random.fold_in(settings.make_key("tasks"), epoch)
        for place, rows in enumerate(batches.reshape(-1, batch_size)):
            step_key = jax.random.fold_in(key, place)
            variables = step(variables, problem.samples, rows, step_key)
        return variables

    return train_epoch


def _find_newest(folder: Path) -> Path | None:
    """Return the folder of the newest model that was written to its end."""
    whole = {
        int(p.parent.name[6:]): p.parent for p in folder.glob("epoch-*/model.json")
    }
    return whole[max(whole)] if whole else None
