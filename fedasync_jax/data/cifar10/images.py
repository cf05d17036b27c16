"""What an image of CIFAR-10 is, whatever it was read from."""

import numpy as np

NUM_CLASSES = 10
IMAGE_SHAPE = (32, 32, 3)


def check_images(name: str, x: np.ndarray) -> None:
    """Refuse anything but uint8 [N, 32, 32, 3], N >= 1."""
    if x.dtype != np.uint8 or x.shape[1:] != IMAGE_SHAPE or not len(x):
        raise ValueError(
            f"{name} must be uint8 [N, 32, 32, 3], N >= 1, got {x.dtype} "
            f"{list(x.shape)}"
        )
