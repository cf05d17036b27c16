"""Settings of the model: which, how wide, how deep."""

import dataclasses
import inspect
from typing import Annotated

from fedasync_jax.models.convolution import CONVOLUTIONS
from fedasync_jax.models.registry import CLASSIFIERS, LANGUAGE_MODELS
from fedasync_jax.parts.bounds import one_of
from fedasync_jax.parts.registry import Setting, merge_settings
from fedasync_jax.parts.settings import PartSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings(PartSettings):
    """What is trained.

    Attributes:
      model: Network to train: mlp, cnn (small), paper-cnn or, for texts, lstm.
      convolution: Form of the convolutions of cnn and paper-cnn: xla, patches (and a
        matrix product) or auto, the one that was measured to be fastest.

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    model: Annotated[str, one_of(CLASSIFIERS, LANGUAGE_MODELS)] = "mlp"
    convolution: Annotated[str, one_of(("auto",), CONVOLUTIONS)] = "auto"

    @classmethod
    def choices(cls) -> dict[str, Setting]:
        """Return the settings of all models."""
        return merge_settings(CLASSIFIERS.settings(), LANGUAGE_MODELS.settings())

    @property
    def convolves(self) -> bool:
        """Whether the model asks for a convolution."""
        factory = CLASSIFIERS.get(self.model)
        return factory is not None and "conv_general_dilated" in (
            inspect.signature(factory).parameters
        )

    @property
    def is_language_model(self) -> bool:
        """Whether it learns texts."""
        return self.model in LANGUAGE_MODELS
