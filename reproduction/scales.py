"""The scales that the paper's experiments are run at."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the runs are.

    Attributes:
      presets: name of the preset, by data.
      changes: what is different from it, by data.
      names: of the data sets, by data.
      differences: from the authors' protocol, in sentences, by data.
      sweep: maximum stalenesses of the sweep.
      seeds: what the runs are repeated with.
    """

    presets: Mapping[str, str]
    changes: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, str]
    differences: Mapping[str, tuple[str, ...]]
    sweep: tuple[int, ...]
    seeds: tuple[int, ...]


AUTHORS_SEEDS = (337, 773, 557, 755)
"""Those of the authors' scripts."""

_CIFAR = (
    "SGD takes the clients' batch and step size, one gradient a step, as single-thread "
    "SGD does; the authors' code uses batches of 1,000 with the gradient divided by 50 "
    "(`--sgd-batch-size`, `--sgd-step-size`).",
    "On a stale download a client gets the batch normalization statistics of the "
    "version that it downloads; the authors' loop does not restore them.",
    "FedAvg draws its clients anew for every round; the authors' code takes them from "
    "permutations of all (`--round-selection permutation`).",
)

_WIKITEXT = (
    "The step size is cut when the validation loss is no better; the authors' code "
    "looks at the test loss (`--plateau-on test`).",
    "A step size that is cut travels with the model; in the authors' code it holds for "
    "every task from then on (`--plateau-applies at-once`).",
    "There is no warm-up; the authors' code starts with a pass over all clients with "
    "step size 0.1 (`--warmup-epochs 1 --warmup-clients 100 --warmup-step-size 0.1`).",
)

SCALES: Mapping[str, Scale] = {
    "paper": Scale(
        presets={"cifar": "cifar10-paper", "text": "wikitext2-paper"},
        changes={"cifar": {}, "text": {}},
        names={"cifar": "CIFAR-10", "text": "WikiText-2"},
        differences={"cifar": _CIFAR, "text": _WIKITEXT},
        sweep=(2, 4, 6, 8, 12, 16, 20, 30, 40, 50),
        seeds=AUTHORS_SEEDS,
    ),
    "small": Scale(
        presets={"cifar": "cifar10-small", "text": "shakespeare"},
        changes={
            "cifar": {"eval_every": 100},
            "text": {
                "schedule": "sampled",
                "concurrency": 20,  # of no effect without a clock: earlier runs go on
                "num_updates": 1000,
            },
        },
        names={
            "cifar": "CIFAR-10, 24 by 24 pixels",
            "text": "Shakespeare by characters",
        },
        differences={
            "cifar": (
                *_CIFAR,
                "The network has a quarter of the channels, so that two cores suffice: "
                "accuracies are lower than the paper's; what is compared is the "
                "methods.",
                "Evaluations are less frequent than the authors' (every 10 updates).",
            ),
            "text": (
                "Shakespeare by characters, a client per speaker, stands for "
                "WikiText-2, which is far more work. Its clients are not alike, the "
                "network has one layer, the step size does not follow a plateau, there "
                "is no warm-up, a task has five steps.",
            ),
        },
        sweep=(2, 4, 16, 50),
        seeds=(337, 773, 557),
    ),
    "micro": Scale(
        presets={"cifar": "cifar10-small", "text": "wikitext2-small"},
        changes={
            "cifar": {
                "cifar10_pool": 4,
                "cnn_channels": (8, 16),
                "cnn_hidden": 32,
                "dropout": 0.0,
                "eval_every": 10,
                "evaluate_clients": "never",
            },
            "text": {
                "vocabulary": 1000,
                "lstm_size": 32,
                "lstm_layers": 1,
                "num_updates": 300,
                "eval_every": 30,
            },
        },
        names={
            "cifar": "CIFAR-10, 6 by 6 pixels",
            "text": "WikiText-2, 1,000 words",
        },
        differences={
            "cifar": (
                *_CIFAR,
                "The 24 by 24 pixels are averaged to 6 by 6, and the network has an "
                "eighth of the channels, a sixteenth of the hidden units and no "
                "dropout. Images, clients, local work, updates, warm-up and "
                "evaluations are the paper's.",
            ),
            "text": (
                *_WIKITEXT,
                "The 999 commonest words, all others are one; one layer of 32 units; "
                "evaluations, which may cut the step size, every 30 updates. Clients "
                "and local work are the paper's.",
            ),
        },
        sweep=(2, 4, 16, 50),
        seeds=(*AUTHORS_SEEDS, 1, 2, 3, 4, 5, 6),
    ),
}
