"""Central training: the model on the pooled data, by a plain loop of optax.

It shares nothing with the engine but the model and the data, so it says what accuracy
they allow, and whether single-thread SGD in the engine is what it should be.
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from fedasync_jax import models
from fedasync_jax.base import PyTree, Variables
from fedasync_jax.config import Settings
from fedasync_jax.exports import load_model, save_model
from fedasync_jax.problem import make_classification


def count_epochs(settings: Settings) -> int:
    """Return how often the runs of these settings see every sample."""
    seen = settings.num_updates * (settings.epochs or 1.0)
    return max(1, round(seen / settings.num_clients))


def train_centrally(
    settings: Settings, num_epochs: int, folder: Path
) -> dict[str, Any]:
    """Return the accuracy after every epoch; what is there is not done again.

    Args:
      settings: of the experiment: batch and step size, weight decay, seed, data, model.
      num_epochs: passes over the train set, each in an order of its own.
      folder: for the model and ``central.json``, written after every epoch.

    Raises:
      ValueError: if the data are bad.
    """
    problem = make_classification(
        settings, models.choose_convolution(settings.convolution, jax.default_backend())
    )
    optimizer = optax.chain(
        optax.add_decayed_weights(settings.weight_decay), optax.sgd(settings.step_size)
    )
    num_samples = len(problem.samples["y"])
    path = folder / "central.json"
    record = {"accuracy": [], "seconds": 0.0}
    variables = problem.model.init(settings.make_key("init"))
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        variables = load_model(folder / "model", variables)

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

    for epoch in range(len(record["accuracy"]), num_epochs):
        begin = time.perf_counter()
        order = np.random.default_rng([settings.seed, epoch]).permutation(num_samples)
        batches = order[: num_samples // settings.batch_size * settings.batch_size]
        key = jax.random.fold_in(settings.make_key("tasks"), epoch)
        for place, rows in enumerate(batches.reshape(-1, settings.batch_size)):
            step_key = jax.random.fold_in(key, place)
            variables = step(variables, problem.samples, rows, step_key)
        record["accuracy"].append(float(problem.evaluate(variables)["correct"]))
        record["seconds"] += time.perf_counter() - begin
        save_model(folder / "model", variables)
        path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return record
