"""Settings of the Worker: how many local steps, of which optimizer."""

import dataclasses
from typing import Annotated

from fedasync_jax.parts.bounds import FRACTION, Bounds, above, at_least, one_of
from fedasync_jax.parts.settings import PartSettings

DEFAULT_RHO = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSettings(PartSettings):
    """What a worker does in a task.

    Attributes:
      num_steps: Local steps of a task (H).
      batch_size: Samples of a local step; 1 for wikitext2, whose samples are batches.
      step_size: Step size of local SGD (gamma).
      rho: Weight of the proximal term of FedAsync and FedProx, rho/2 ||x -
        x_received||^2: the paper's rho, not its product with the step size (default:
        0.01, unless gamma_rho is set).
      gamma_rho: Product step_size * rho, which the authors' code takes, in place of
        rho.
      max_steps: Most local steps of a task: H is drawn for each, uniformly from
        num_steps to max_steps.
      epochs: Passes over the client's own samples, from which H follows, in place of
        num_steps.
      time_budget: Simulated seconds of training per task: H is what the device can do
        in them, from num_steps to max_steps.
      sampling: Order of the samples: epochs (reshuffled passes over the client's
        samples) or replacement (independent draws).
      momentum: Momentum of local SGD, in [0, 1); every task starts it anew, and sgd at
        every evaluation.
      weight_decay: Weight of 1/2 ||x||^2 in the loss; its gradient is added after
        clipping.
      clip_norm: Largest global norm of the gradient, before weight decay and the
        proximal term are added.
      plateau_factor: Factor on the step size, in (0, 1), after an evaluation that is no
        better than the best one before.
      plateau_on: Loss that plateau_factor goes by: validation or test.
      plateau_applies: Tasks with the reduced step size: by-version (those that start
        from the evaluated version or a later one) or at-once (all that are mixed after
        the evaluation, as in the authors' loop).
      warmup_epochs: Passes of plain SGD over the data of the first clients before
        version 0; all methods start from the result.
      warmup_clients: Number of clients in the warm-up, one after the other in each
        pass.
      warmup_step_size: Step size of the warm-up.
      sgd_batch_size: Samples of a step of sgd (default: batch_size). A step of twice
        batch_size counts as two gradients, and takes the time of two steps.
      sgd_step_size: Step size of sgd (default: step_size).

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    num_steps: Annotated[int, at_least(1)] = 5
    batch_size: Annotated[int, at_least(1)] = 10
    step_size: Annotated[float, above(0)] = 0.4
    rho: Annotated[float, at_least(0)] | None = None
    gamma_rho: Annotated[float, at_least(0)] | None = None
    max_steps: int | None = None
    epochs: Annotated[float, above(0)] | None = None
    time_budget: Annotated[float, above(0)] | None = None
    sampling: Annotated[str, one_of(("epochs", "replacement"))] = "epochs"
    momentum: Annotated[float, FRACTION] = 0.0
    weight_decay: Annotated[float, at_least(0)] = 0.0
    clip_norm: Annotated[float, above(0)] | None = None
    plateau_factor: (
        Annotated[float, Bounds(0, 1, open_low=True, open_high=True)] | None
    ) = None
    plateau_on: Annotated[str, one_of(("validation", "test"))] = "validation"
    plateau_applies: Annotated[str, one_of(("by-version", "at-once"))] = "by-version"
    warmup_epochs: Annotated[int, at_least(0)] = 0
    warmup_clients: Annotated[int, at_least(1)] = 1
    warmup_step_size: Annotated[float, above(0)] = 0.01
    sgd_batch_size: Annotated[int, at_least(1)] | None = None
    sgd_step_size: Annotated[float, above(0)] | None = None

    def __post_init__(self) -> None:
        """Check what fits together."""
        super().__post_init__()
        for name, other in (("max_steps", "epochs"), ("rho", "gamma_rho")):
            values = getattr(self, name), getattr(self, other)
            if None not in values:
                raise ValueError(
                    f"{name} must not be set together with {other}, "
                    f"got {values[0]} and {values[1]}"
                )
        lowest = at_least(self.num_steps)
        if self.max_steps is not None and not lowest.holds(self.max_steps):
            raise ValueError(f"max_steps must be {lowest}, got {self.max_steps}")

    @property
    def proximal_weight(self) -> float:
        """The paper's rho, whichever way it was given."""
        if self.gamma_rho is not None:
            return self.gamma_rho / self.step_size
        return DEFAULT_RHO if self.rho is None else self.rho
