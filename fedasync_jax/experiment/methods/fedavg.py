"""FedAvg and FedProx: rounds that end with the mean of their arrivals.

The mean is weighted by n_i, the samples of the clients, if the settings say so.
Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017, Algorithm 1.
"""

import functools

import numpy as np

from fedasync_jax import mixing
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.records import Method
from fedasync_jax.schedule.build import build_rounds
from fedasync_jax.schedule.trace import round_ends


def make_fedavg(context: Context) -> Method:
    """Return FedAvg, whose workers have no proximal term."""
    return _make_rounds("FedAvg", context, rho=0.0)


def make_fedprox(context: Context) -> Method:
    """Return FedProx: FedAvg with the proximal term."""
    return _make_rounds("FedProx", context, rho=context.worker.proximal_weight)


def _make_rounds(name: str, context: Context, *, rho: float) -> Method:
    trace = build_rounds(
        context.schedule,
        context.fleet,
        context.work,
        context.num_updates,
        functools.partial(context.make_rng, "schedule"),
    )
    ends = round_ends(trace)  # only whole rounds are models
    by_samples = context.mixing.fedavg_weights == "samples"
    counts = np.asarray(context.workload.clients.counts)
    every = -(-context.eval_every // context.schedule.clients_per_round)
    return Method(
        name=f"{name} (by samples)" if by_samples else name,
        fleet=context.fleet,
        trace=trace,
        staleness=np.zeros(trace.num_updates, np.int32),
        local_update=make_worker(context.worker, context.workload, rho=rho),
        mixer=mixing.average_rounds(counts if by_samples else None),
        eval_every=ends[every - 1 :: every],
        models=ends,
    )
