"""The output layer of a language model: cross-entropy over a large vocabulary.

Most of the time of a language model goes here. The gradient is computed along with the
loss, some tokens at a time, so that neither the logits nor their gradients [N, V] ever
exist as a whole; on a CPU that takes 0.7 of the time of automatic differentiation.

Shapes: N tokens in blocks of n, V tokens in the vocabulary, E width of the embedding.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fedasync_jax.base import Array
from fedasync_jax.models.outputs import cross_entropy

_MAX_BLOCK = 128  # tokens; more or fewer were slower


def compute_logits(outputs: Array, embedding: Array, bias: Array) -> Array:
    """Return h W_e^T + b_e, float [..., V].

    Args:
      outputs: h, float [..., E].
      embedding: W_e, float [V, E].
      bias: b_e, float [V].
    """
    return outputs @ embedding.T + jnp.expand_dims(bias, range(outputs.ndim - 1))


@jax.custom_vjp
def mean_cross_entropy(
    outputs: Array, embedding: Array, bias: Array, labels: Array
) -> Array:
    """Return the mean cross-entropy of the softmax of the logits, float [].

    Its gradient is by hand: with p the softmax and q the label as a unit vector,
    the gradient with respect to the logits is (p - q) / N.

    Args:
      outputs: float [N, E].
      embedding: float [V, E].
      bias: float [V].
      labels: int [N], in 0..V-1.
    """
    return jnp.mean(cross_entropy(compute_logits(outputs, embedding, bias), labels))


def _forward(
    outputs: Array, embedding: Array, bias: Array, labels: Array
) -> tuple[Array, tuple[Array, ...]]:
    """Return the loss and its gradients."""
    num_tokens = outputs.shape[0]
    num_blocks = _count_blocks(num_tokens)

    def add_block(carry, block):
        loss, to_embedding, to_bias = carry
        h, y = block
        place = jnp.arange(len(y))
        logits = embedding @ h.T + bias[:, None]  # [V, n]: this way round is faster
        top = jnp.max(logits, axis=0, keepdims=True)
        scaled = jnp.exp(logits - top)
        total = jnp.sum(scaled, axis=0, keepdims=True)
        losses = jnp.log(total[0]) + top[0] - logits[y, place]
        to_logits = scaled / (total * num_tokens)
        to_logits = to_logits.at[y, place].add(-1 / num_tokens)
        carry = (
            loss + jnp.sum(losses) / num_tokens,
            to_embedding + to_logits @ h,
            to_bias + jnp.sum(to_logits, axis=1),
        )
        return carry, to_logits.T @ embedding

    zero = jnp.zeros((), outputs.dtype)
    start = (zero, jnp.zeros_like(embedding), jnp.zeros_like(bias))
    blocks = (
        outputs.reshape(num_blocks, -1, outputs.shape[1]),
        labels.reshape(num_blocks, -1),
    )
    (loss, to_embedding, to_bias), to_outputs = lax.scan(add_block, start, blocks)
    return loss, (to_outputs.reshape(outputs.shape), to_embedding, to_bias)


def _backward(gradients: tuple[Array, ...], weight: Array) -> tuple[Array | None, ...]:
    return (*(weight * gradient for gradient in gradients), None)


mean_cross_entropy.defvjp(_forward, _backward)


def _count_blocks(num_tokens: int) -> int:
    """Return the fewest equal blocks of a size that is fast; 1 if there is none."""
    for count in range(1, num_tokens // (_MAX_BLOCK // 2) + 2):
        if num_tokens % count == 0 and num_tokens // count <= _MAX_BLOCK:
            return count
    return 1
