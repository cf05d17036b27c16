"""A run over a network, done again by the simulator's engine.

The run folder says who arrived when, from which version and with which task. The engine
trains the same tasks from the same versions and mixes them in the same order: what
comes out must be the model that the network made, to rounding. So a run can be audited,
as far as the nodes said the truth of themselves.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, Mixer, MixFn, MixInfo, PyTree, Variables
from fedasync_jax.engine.algorithm import run
from fedasync_jax.engine.plan import as_pytree
from fedasync_jax.engine.state import RunResult
from fedasync_jax.experiment.build import build_workload
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.presets import from_json
from fedasync_jax.flower.settings import rule_of
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.schedule.trace import Trace, make_trace
from fedasync_jax.storage import read_run
from fedasync_jax.storage.config import read_config
from fedasync_jax.storage.models import load_model


class Replay(NamedTuple):
    """A run and its repetition.

    Attributes:
      updates: of the network, arrays [T] by name.
      model: that the network made.
      result: of the engine.
      difference: largest difference between a number of the two models.
    """

    updates: dict[str, np.ndarray]
    model: Variables
    result: RunResult
    difference: float


def replay_run(run_dir: str | Path) -> Replay:
    """Repeat a finished run on a known data set in the engine.

    Args:
      run_dir: its run folder; ``num-clients`` of its run config must have been the
        nodes' ``num-partitions``.

    Raises:
      ValueError: if the folder is not that of such a run, or a node had data of its
        own.
    """
    settings = from_json(read_config(run_dir)["settings"], concurrency=1)
    rule = rule_of(settings)
    updates = read_run.read_updates(run_dir, rule.name)
    if updates is None or updates["partition"].min() < 0:
        raise ValueError(
            f"run_dir must hold updates of parts of a known data set, got {run_dir}"
        )
    workload = build_workload(settings)
    x_0 = jax.jit(workload.model.init)(settings.make_key("init"))
    worker = make_worker(settings.worker, workload, rho=settings.worker.proximal_weight)
    key = settings.make_key("tasks")
    scales = updates.get("scale", np.ones(1, np.float32))  # runs of before have none
    mixer = shorten_updates(rule.mixer, scales) if (scales < 1).any() else rule.mixer
    result = run(make_recorded_trace(updates), worker, mixer, x_0, key)
    judged = mixer.evaluated(result.state.variables, result.state.mixer_state)
    folder = Path(run_dir) / slugify(rule.name) / "model"
    model = load_model(folder, x_0)
    leaves = zip(*map(jax.tree.leaves, (model, judged)), strict=True)
    difference = max(float(np.abs(left - right).max()) for left, right in leaves)
    return Replay(updates, model, result, difference)


def make_recorded_trace(updates: dict[str, np.ndarray]) -> Trace:
    """Return the trace of recorded arrivals; a client is a part of the data set."""
    start_version = updates["start_version"]
    last_reader = np.full(len(start_version) + 1, -1)
    last_reader[start_version] = np.arange(len(start_version))
    return make_trace(
        client=updates["partition"],
        task=updates["task"],
        start_version=start_version,
        start_time=updates["start_time"],
        arrival_time=updates["arrival_time"],
        num_steps=updates["num_steps"],
        last_reader=last_reader,
    )


def shorten_updates(mixer: Mixer, scales: np.ndarray) -> Mixer:
    """Return a rule that mixes x_tau + c_t (x_new - x_tau) in the place of x_new.

    Args:
      mixer: the rule.
      scales: float [T], c_t of the arrival that is mixed into version t.
    """
    inner = as_pytree(mixer.update)
    update = jax.tree_util.Partial(_mix_shortened, inner, np.float32(scales))
    return mixer._replace(update=update)


def _mix_shortened(
    inner: MixFn,
    scales: Array,
    local: PyTree,
    state: PyTree,
    current: PyTree,
    *,
    start: PyTree,
    version: Array,
    **about: Array,
) -> tuple[PyTree, PyTree, MixInfo]:
    shortened = tree.lerp(start, local, jnp.asarray(scales)[version])
    return inner(shortened, state, current, start=start, version=version, **about)
