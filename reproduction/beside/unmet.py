"""Numbers that others published and that cannot be met here: their data are missing.

References: Li et al., arXiv 1812.06127 (FedProx). McMahan et al., "Communication-
Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, arXiv
1602.05629, tables 1 and 2. He et al., arXiv 2007.13518 (FedML), which lists Reddi et
al., "Adaptive Federated Optimization", arXiv 2003.00295.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reproduction.beside.published import AVERAGED, PROXIMAL
from reproduction.beside.runs import PROBLEM


class Unmet(NamedTuple):
    """A number that cannot be met here.

    Attributes:
      source: who published it, and where.
      number: what was published, in words.
      missing: what is not at hand, and what would still differ.
      settings: those of the command that would make the run.
    """

    source: str
    number: str
    missing: str
    settings: Mapping[str, Any]


_FEDPROX = {**PROBLEM, "epochs": 20.0, "methods": (AVERAGED, PROXIMAL)}
_FEDPROX = {k: v for k, v in _FEDPROX.items() if not k.startswith("synthetic")}
_MNIST = {
    "num_clients": 100,
    "batch_size": 10,
    "step_size": 0.1,
    "methods": ("fedavg",),
}
_NO_MNIST = (
    "MNIST is not at hand, and the step size, tuned for each cell, is not printed"
)
_CNN = "; the library's `cnn` is smaller"
_LSTM = "; the library's LSTM ties the embedding to the output"

UNMET: Sequence[Unmet] = (
    Unmet(
        "FedProx paper, figures 2 and 6, Synthetic(1, 1)",
        "curves over 200 rounds; no number is printed",
        "the authors' draw of the data (in their repository)",
        {
            **_FEDPROX,
            "dataset": "leaf",
            "data_path": "FedProx/data/synthetic_1_1/data",
            "num_updates": 2000,
        },
    ),
    Unmet(
        "FedProx paper, figure 1, FEMNIST",
        "curves over 200 rounds; no number is printed",
        "their FEMNIST (200 devices, ten letters)",
        {
            **_FEDPROX,
            "dataset": "leaf",
            "data_path": "FedProx/data/nist/data",
            "num_clients": 200,
            "step_size": 0.003,
            "num_updates": 2000,
        },
    ),
    Unmet(
        "FedProx paper, figure 1, Shakespeare",
        "curves; no number is printed",
        f"their Shakespeare (143 devices){_LSTM}",
        {
            "preset": "shakespeare",
            "dataset": "leaf-text",
            "data_path": "FedProx/data/shakespeare/data",
            "num_clients": 143,
            "lstm_size": 100,
            "lstm_layers": 2,
            "epochs": 20.0,
            "step_size": 0.8,
            "methods": (AVERAGED, "fedprox:weights=samples,rho=0.001"),
            "num_updates": 400,
        },
    ),
    Unmet(
        "McMahan et al., table 1, MNIST 2NN, C = 0.1, E = 1, B = 10, IID",
        "97% in 87 rounds",
        _NO_MNIST,
        {
            **_MNIST,
            "dataset": "npz",
            "data_path": "mnist.npz",
            "partition": "iid",
            "hidden": (200, 200),
            "epochs": 1.0,
            "num_updates": 870,
            "eval_every": 10,
        },
    ),
    Unmet(
        "the same, non-IID",
        "97% in 664 rounds",
        _NO_MNIST,
        {
            **_MNIST,
            "dataset": "npz",
            "data_path": "mnist.npz",
            "partition": "shards",
            "hidden": (200, 200),
            "epochs": 1.0,
            "num_updates": 6640,
            "eval_every": 10,
        },
    ),
    Unmet(
        "McMahan et al., table 2, MNIST CNN, C = 0.1, E = 5, B = 10, IID",
        "99% in 20 rounds",
        _NO_MNIST + _CNN,
        {
            **_MNIST,
            "dataset": "tfds:mnist",
            "data_path": "tensorflow_datasets",
            "partition": "iid",
            "model": "cnn",
            "epochs": 5.0,
            "num_updates": 200,
            "eval_every": 10,
        },
    ),
    Unmet(
        "the same, non-IID",
        "99% in 229 rounds",
        _NO_MNIST + _CNN,
        {
            **_MNIST,
            "dataset": "tfds:mnist",
            "data_path": "tensorflow_datasets",
            "partition": "shards",
            "model": "cnn",
            "epochs": 5.0,
            "num_updates": 2290,
            "eval_every": 10,
        },
    ),
    Unmet(
        "FedML benchmark, after Reddi et al., table 1, Federated EMNIST CNN",
        "84.9% after more than 1,500 rounds",
        f"Federated EMNIST (3,400 writers){_CNN}",
        {
            "dataset": "leaf",
            "data_path": "leaf/data/femnist/data",
            "partition": "natural",
            "num_clients": 3400,
            "model": "cnn",
            "epochs": 1.0,
            "batch_size": 20,
            "step_size": 0.1,
            "methods": (AVERAGED,),
            "num_updates": 15_000,
            "evaluate_clients": "never",
        },
    ),
    Unmet(
        "FedML benchmark, after Reddi et al., table 1, Shakespeare LSTM",
        "56.9% after more than 1,200 rounds",
        f"LEAF's Shakespeare (715 roles){_LSTM}",
        {
            "preset": "shakespeare",
            "dataset": "leaf-text",
            "data_path": "leaf/data/shakespeare/data",
            "num_clients": 715,
            "lstm_size": 256,
            "lstm_layers": 2,
            "epochs": 1.0,
            "batch_size": 4,
            "step_size": 1.0,
            "methods": (AVERAGED,),
            "num_updates": 12_000,
            "evaluate_clients": "never",
        },
    ),
)
