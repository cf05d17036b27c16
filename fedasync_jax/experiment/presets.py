"""Named settings: the project's own default, and the experiments of the paper.

Numbers are those of the authors' protocol, in the paper's units: rho is the paper's
rho, where the authors' code has its product with the step size.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020, section
6 and the authors' code.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fedasync_jax.experiment.settings import Settings, name_parts


class Preset(NamedTuple):
    """Settings under a name.

    Attributes:
      description: one line.
      fields: what differs from the defaults of ``Settings``.
    """

    description: str
    fields: Mapping[str, Any]


_PAPER = {
    "methods": (
        "fedasync-constant",
        "fedasync-polynomial",
        "fedasync-hinge",
        "fedavg",
        "sgd",
    ),
    "num_clients": 100,
    "clients_per_round": 10,
    "schedule": "sampled",
    "concurrency": 20,  # of no effect without a clock, but runs made before go on
    "max_staleness": 4,
    "epochs": 1.0,
    "polynomial_a": 0.5,
    "hinge_a": 10.0,
    "hinge_b": 4.0,
}
_CIFAR10 = {
    **_PAPER,
    "dataset": "cifar10",
    "partition": "iid",
    "model": "paper-cnn",
    "dropout": 0.25,
    "num_updates": 2000,
    "eval_every": 10,
    "alpha": 0.6,
    "alpha_drop_at": 800,
    "alpha_drop": 0.5,
    "batch_size": 50,
    "step_size": 0.1,
    "weight_decay": 1e-4,
    "rho": 0.05,  # times step_size: 0.005
    "warmup_epochs": 5,
    "warmup_step_size": 0.01,
}
_WIKITEXT2 = {
    **_PAPER,
    "evaluate_clients": "never",  # the train set is seven times the test set
    "dataset": "wikitext2",
    "partition": "natural",
    "model": "lstm",
    "lstm_size": 200,
    "lstm_layers": 2,
    "lstm_biases": 2,
    "dropout": 0.2,
    "text_columns": 20,
    "bptt": 35,
    "num_updates": 4000,
    "eval_every": 100,
    "alpha": 0.8,
    "hinge_b": 2.0,
    "batch_size": 1,
    "step_size": 20.0,
    "clip_norm": 0.25,
    "rho": 5e-6,  # times step_size: 1e-4
    "plateau_factor": 0.25,
    "plateau_on": "validation",
}

PRESETS: Mapping[str, Preset] = {
    "digits": Preset(
        "handwritten digits, non-IID, slow and fast clients: the default", {}
    ),
    "cifar10-paper": Preset(
        "the paper's CIFAR-10 experiment, max staleness 4", _CIFAR10
    ),
    "cifar10-small": Preset(
        "the same with a quarter of the channels, for a laptop",
        {**_CIFAR10, "cnn_channels": (16, 32), "cnn_hidden": 128, "eval_every": 50},
    ),
    "wikitext2-paper": Preset(
        "the paper's WikiText-2 experiment, max staleness 4, hinge(10, 2)", _WIKITEXT2
    ),
    "wikitext2-paper-16": Preset(
        "the same at max staleness 16, where the paper's hinge is (10, 4)",
        {**_WIKITEXT2, "max_staleness": 16, "hinge_b": 4.0},
    ),
    "wikitext2-small": Preset(
        "that of max staleness 4, a quarter of the width, a tenth of the updates",
        {**_WIKITEXT2, "lstm_size": 50, "num_updates": 400, "eval_every": 20},
    ),
    "shakespeare": Preset(
        "characters of Shakespeare, a client per speaker, slow and fast clients",
        {
            "dataset": "shakespeare",
            "partition": "natural",
            "model": "lstm",
            "lstm_size": 128,
            "lstm_layers": 1,
            "dropout": 0.0,
            "num_updates": 2000,
            "eval_every": 50,
            "batch_size": 10,
            "step_size": 4.0,
            "clip_norm": 0.5,
            "rho": 0.001,
        },
    ),
}


FLEETS: Mapping[str, Preset] = {
    "stragglers": Preset(
        "20% of the devices are 8 times slower, and no task lasts quite like another",
        {
            "client_law": "tiers",
            "tier_shares": (0.2,),
            "tier_factors": (8.0,),
            "task_law": "log-normal",
            "task_sigma": 0.25,
        },
    ),
    "mobile": Preset(
        "phones around the world that train while idle, charging and on Wi-Fi, and "
        "drop the task when they are not",
        {
            "seconds_per_step": 20.0,
            "client_law": "log-normal",
            "client_sigma": 0.5,
            "task_law": "log-normal",
            "task_sigma": 0.25,
            "downlink": 1e6,
            "uplink": 2.5e5,
            "latency": 0.2,
            "network_law": "log-normal",
            "network_sigma": 1.0,
            "availability": "idle-charging-unmetered",
            "mean_on": 7200.0,
            "mean_off": 600.0,
            "charging_from": 22.0,
            "charging_hours": 8.0,
            "time_zones": 24,
            "unmetered_on": 28800.0,
            "unmetered_off": 7200.0,
            "when_away": "lose",
            "failure_rate": 0.02,
        },
    ),
}


def make_settings(
    preset: str = "digits", fleet: str | None = None, **overrides: Any
) -> Settings:
    """Return the settings of a preset, some of them replaced.

    A rho of the preset gives way to a ``gamma_rho``.

    Args:
      preset: a name in ``PRESETS``.
      fleet: a name in ``FLEETS``, whose devices replace those of the preset.
      **overrides: settings by their flat names.

    Raises:
      ValueError: if a name is unknown or a setting out of range.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    if fleet is not None and fleet not in FLEETS:
        raise ValueError(f"fleet must be one of {', '.join(FLEETS)}, got {fleet!r}")
    fields = {**PRESETS[preset].fields}
    if fleet is not None:
        fields |= FLEETS[fleet].fields
    if overrides.get("gamma_rho") is not None:
        fields.pop("rho", None)
    return Settings().replace(**{**fields, **overrides})


def from_json(values: Mapping[str, Any], **overrides: Any) -> Settings:
    """Return the settings that ``Settings.to_json`` gave, some of them replaced.

    Raises:
      ValueError: if a field is unknown or out of range.
    """
    unknown = sorted(values.keys() - name_parts().keys())
    if unknown:
        raise ValueError(
            f"settings must belong to known parts, got {unknown[0]} (of "
            "a part of your own? load it with --load)"
        )
    return Settings().replace(**{**values, **overrides})
