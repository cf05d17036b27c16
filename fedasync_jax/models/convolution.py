"""Convolution as patches and one matrix product.

XLA's own convolution is slow in two places that federated training goes through: in a
rolled loop on the CPU, and under ``vmap`` with one kernel per worker, where it becomes
a grouped convolution. A matrix product is fast in both; under ``vmap`` it turns into a
batched one.

Shapes: B images, H by W pixels, C channels in, D channels out, kernel I by J, output
P by Q.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from fedasync_jax.base import Array

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class Convolution(NamedTuple):
    """A way to convolve, and what training must do for it to be fast.

    Attributes:
      fn: a function with the arguments of ``jax.lax.conv_general_dilated``.
      unroll: whether the local steps must be written out (see ``make_local_update``)
        and every device must train one task at a time (``choose_batching``), so that
        the convolution stands neither in a loop nor under ``vmap``.
    """

    fn: Callable[..., Array]
    unroll: bool


def choose_convolution(name: str = "auto", platform: str = "cpu") -> Convolution:
    """Return a convolution that a back end is fast with.

    Args:
      name: "auto" for what was measured to be the fastest (``docs/performance.md``),
        "xla" for ``jax.lax.conv_general_dilated`` or "patches" for ``conv_as_matmul``.
      platform: name of the back end, such as "cpu", "gpu" or "tpu".

    Raises:
      ValueError: for an unknown name.
    """
    if name == "auto":
        name = _FASTEST.get(platform, "patches")
    if name not in CONVOLUTIONS:
        allowed = ", ".join(("auto", *CONVOLUTIONS))
        raise ValueError(f"name must be one of {allowed}, got {name!r}")
    unroll = name == "xla" and platform == "cpu"
    return Convolution(CONVOLUTIONS[name], unroll)


def conv_as_matmul(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = _LAYOUT,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Convolve images as ``jax.lax.conv_general_dilated`` does, by one matrix product.

    y[b, p, q, d] = sum_{i, j, c} x[b, p s_0 + i, q s_1 + j, c] k[i, j, c, d], with x
    padded and s the strides. Fits ``flax.linen.Conv(conv_general_dilated=...)``.

    Args:
      lhs: images x, float [B, H, W, C].
      rhs: kernel k, float [I, J, C, D].
      window_strides: two strides, in pixels.
      padding: ``"SAME"``, ``"SAME_LOWER"``, ``"VALID"`` or two pairs (low, high).
      lhs_dilation: None or ones.
      rhs_dilation: None or ones.
      dimension_numbers: NHWC, HWIO, NHWC in any of the forms that ``lax`` takes.
      feature_group_count: 1.
      batch_group_count: 1.
      precision: as for ``jax.lax.dot_general``.
      preferred_element_type: as for ``jax.lax.dot_general``.

    Raises:
      ValueError: for another layout, dilation or groups, for channels that do not
        match, and for a kernel larger than the padded image.

    Returns:
      Images y, float [B, P, Q, D].
    """
    _require_layout(lhs, rhs, dimension_numbers)
    _require_ones("lhs_dilation", lhs_dilation)
    _require_ones("rhs_dilation", rhs_dilation)
    _require_ones("feature_group_count", (feature_group_count,))
    _require_ones("batch_group_count", (batch_group_count,))
    kernel_size = rhs.shape[:2]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(
            lhs.shape[1:3], kernel_size, window_strides, padding
        )
    patches = _take_patches(_pad(lhs, padding), kernel_size, window_strides)
    return lax.dot_general(
        patches,
        rhs.reshape(-1, rhs.shape[-1]),
        (((3,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def _pad(images: Array, padding: Sequence[tuple[int, int]]) -> Array:
    (top, bottom), (left, right) = padding
    edges = [(0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)]
    return lax.pad(images, jnp.zeros((), images.dtype), edges)


def _take_patches(
    images: Array, kernel_size: Sequence[int], strides: Sequence[int]
) -> Array:
    """Return patches [B, P, Q, I J C]: one shifted, strided image per kernel entry."""
    batch, height, width, channels = images.shape
    rows, columns = height - kernel_size[0] + 1, width - kernel_size[1] + 1
    if rows < 1 or columns < 1:
        raise ValueError(
            f"kernel size must be at most the padded image size {(height, width)}, "
            f"got {tuple(kernel_size)}"
        )
    shifted = [
        lax.slice(
            images,
            (0, i, j, 0),
            (batch, i + rows, j + columns, channels),
            (1, *strides, 1),
        )
        for i in range(kernel_size[0])
        for j in range(kernel_size[1])
    ]
    return jnp.concatenate(shifted, axis=-1)


def _require_layout(lhs: Array, rhs: Array, dimension_numbers: Any) -> None:
    if lhs.ndim != 4 or rhs.ndim != 4:
        raise ValueError(
            "lhs and rhs must be [B, H, W, C] and [I, J, C, D], "
            f"got {lhs.shape} and {rhs.shape}"
        )
    allowed = lax.conv_dimension_numbers(lhs.shape, rhs.shape, _LAYOUT)
    given = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if given != allowed:
        raise ValueError(
            f"dimension_numbers must be {_LAYOUT}, got {dimension_numbers}"
        )
    if lhs.shape[3] != rhs.shape[2]:
        raise ValueError(
            f"lhs and rhs must agree in channels, got {lhs.shape} and {rhs.shape}"
        )


def _require_ones(name: str, value: Sequence[int] | None) -> None:
    if value is not None and any(v != 1 for v in value):
        raise ValueError(f"{name} must be 1 everywhere, got {tuple(value)}")


CONVOLUTIONS: Mapping[str, Callable[..., Array]] = {
    "xla": lax.conv_general_dilated,
    "patches": conv_as_matmul,
}
_FASTEST = {"cpu": "xla"}  # of back ends that were measured; others: "patches"
