"""What can be trained: ready models, and models from flax or plain functions.

flax's nnx takes half a second to import, and is so when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fedasync_jax.models.cnn import CNN
from fedasync_jax.models.convolution import (
    CONVOLUTIONS,
    Convolution,
    choose_convolution,
    conv_as_matmul,
)
from fedasync_jax.models.eqx import from_eqx
from fedasync_jax.models.frozen import Frozen, freeze
from fedasync_jax.models.functions import make_model
from fedasync_jax.models.linen import from_linen
from fedasync_jax.models.lstm import make_lstm_lm
from fedasync_jax.models.mlp import MLP
from fedasync_jax.models.outputs import from_apply, squared_error
from fedasync_jax.models.paper_cnn import (
    PaperCNN,
    make_paper_cnn,
    normalize_inputs,
)
from fedasync_jax.models.registry import (
    CLASSIFIERS,
    LANGUAGE_MODELS,
    make_classifier,
)

if TYPE_CHECKING:
    from fedasync_jax.models.nnx import from_nnx

__all__ = [
    "CLASSIFIERS",
    "CNN",
    "CONVOLUTIONS",
    "LANGUAGE_MODELS",
    "MLP",
    "Convolution",
    "Frozen",
    "PaperCNN",
    "choose_convolution",
    "conv_as_matmul",
    "freeze",
    "from_apply",
    "from_eqx",
    "from_linen",
    "from_nnx",
    "make_classifier",
    "make_lstm_lm",
    "make_model",
    "make_paper_cnn",
    "normalize_inputs",
    "squared_error",
]


def __getattr__(name: str) -> Any:
    """Return ``from_nnx``."""
    if name != "from_nnx":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("fedasync_jax.models.nnx").from_nnx


def __dir__() -> list[str]:
    """Name ``from_nnx`` too, for completion and the reference."""
    return sorted({*globals(), *__all__})
