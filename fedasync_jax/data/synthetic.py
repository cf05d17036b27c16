r"""Synthetic(alpha, beta): classification whose clients differ by two numbers.

Client k draws u_k ~ N(0, alpha) and labels by a model of its own, W_k, b_k ~ N(u_k, 1),
y = argmax(W_k x + b_k); it draws B_k ~ N(0, beta), a centre v_k ~ N(B_k, 1) for its
inputs, and x ~ N(v_k, diag(j^-1.2)), j = 1..60. N(., s) has the variance s. It has
50 + floor(exp(4 + 2 z)) samples, z ~ N(0, 1). If the clients are alike (``iid``), all
have one W, b ~ N(0, 1) and v_k = 0.

beta says how far apart the inputs of the clients are. alpha was meant to say the same
of their labelling, but u_k is added to the scores of all classes alike and cancels in
the argmax: labellings are independent draws at any alpha.

Reference: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020,
section 5.1 and appendix C.1. The sizes are those of the authors' code, which takes s
for the standard deviation: the same for 0 and 1.
"""

from typing import Annotated

import numpy as np

from fedasync_jax.data.dataset import Dataset
from fedasync_jax.parts.bounds import Bounds, at_least

DIMENSIONS, NUM_CLASSES = 60, 10
_SMALLEST, _LOG_MEAN, _LOG_SIGMA = 50, 4.0, 2.0
_MOST = 100_000  # samples of a client; the law has a heavy tail
_TEST_SHARE = 0.1


def make_synthetic(
    num_clients: int,
    alpha: Annotated[float, at_least(0)] = 1.0,
    beta: Annotated[float, at_least(0)] = 1.0,
    iid: bool = False,
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0,
) -> Dataset:
    """Return Synthetic(alpha, beta); of every client the last tenth is tested on.

    Args:
      num_clients: C; 30 in the paper.
      alpha: variance of the clients' means of weights, >= 0.
      beta: variance of the clients' means of centres, >= 0.
      iid: whether all clients share one labelling and one law of inputs.
      seed: seed of the data only; runs of any seed learn the same data.

    Raises:
      ValueError: if there is no client.

    Returns:
      x float32 [N, 60], y int32 [N] in 0..9, and the owner of each training sample.
    """
    if num_clients < 1:
        raise ValueError(f"num_clients must be >= 1, got {num_clients}")
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(_LOG_MEAN, _LOG_SIGMA, num_clients)
    sizes = _SMALLEST + np.minimum(sizes, _MOST).astype(int)
    scale = np.arange(1, DIMENSIONS + 1) ** -0.6  # the root of the variance j^-1.2
    shared = _draw_labelling(rng, 0.0)
    parts = []
    for client, size in enumerate(sizes):
        labelling, centre = shared, np.zeros(DIMENSIONS)
        if not iid:
            labelling = _draw_labelling(rng, rng.normal(0, np.sqrt(alpha)))
            centre = rng.normal(rng.normal(0, np.sqrt(beta)), 1, DIMENSIONS)
        weights, bias = labelling
        x = centre + scale * rng.normal(size=(size, DIMENSIONS))
        y = np.argmax(x @ weights + bias, axis=1)
        cut = size - int(np.ceil(_TEST_SHARE * size))
        parts.append((x[:cut], y[:cut], x[cut:], y[cut:], np.full(cut, client)))
    joined = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    x_train, y_train, x_test, y_test, keys = joined
    return Dataset(
        x_train.astype(np.float32),
        y_train.astype(np.int32),
        x_test.astype(np.float32),
        y_test.astype(np.int32),
        num_classes=NUM_CLASSES,
        client_train=keys,
    )


def _draw_labelling(
    rng: np.random.Generator, mean: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return W [60, 10] and b [10]."""
    return rng.normal(mean, 1, (DIMENSIONS, NUM_CLASSES)), rng.normal(
        mean, 1, NUM_CLASSES
    )
