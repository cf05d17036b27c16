"""Algorithm 1: the host's loop and the device's waves."""

from fedasync_jax.engine.algorithm import iterate, run
from fedasync_jax.engine.batching import Batching, choose_batching
from fedasync_jax.engine.calls import Call
from fedasync_jax.engine.history import Evaluation, Updates
from fedasync_jax.engine.loop import Run
from fedasync_jax.engine.many import run_many
from fedasync_jax.engine.processes import ProcessFailed
from fedasync_jax.engine.state import RunResult, RunState, Snapshot, init_state
from fedasync_jax.engine.step_scales import StepScales, reduce_on_plateau

__all__ = [
    "Batching",
    "Call",
    "Evaluation",
    "ProcessFailed",
    "Run",
    "RunResult",
    "RunState",
    "Snapshot",
    "StepScales",
    "Updates",
    "choose_batching",
    "init_state",
    "iterate",
    "reduce_on_plateau",
    "run",
    "run_many",
]
