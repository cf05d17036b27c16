"""The output layer: its loss and its gradient by hand are the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax.models import output_layer
from fedasync_jax.models.outputs import cross_entropy

VOCABULARY, WIDTH = 11, 4


def make_arguments(num_tokens):
    rng = np.random.default_rng(num_tokens)
    outputs = rng.normal(size=(num_tokens, WIDTH)).astype(np.float32)
    embedding = 3 * rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    bias = rng.normal(size=VOCABULARY).astype(np.float32)
    labels = rng.integers(0, VOCABULARY, num_tokens).astype(np.int32)
    return outputs, embedding, bias, labels


def plain_loss(outputs, embedding, bias, labels):
    logits = jnp.einsum("nw,vw->nv", outputs, embedding) + bias[None]
    return jnp.mean(cross_entropy(logits, labels))


@pytest.mark.parametrize("num_tokens", [1, 7, 128, 131, 300, 700])
def test_loss_and_gradients_are_those_of_the_plain_form(num_tokens):
    arguments = make_arguments(num_tokens)
    which = (0, 1, 2)
    by_hand = jax.value_and_grad(
        lambda *a: 2 * output_layer.mean_cross_entropy(*a), which
    )
    plain = jax.value_and_grad(lambda *a: 2 * plain_loss(*a), which)
    loss, gradients = jax.jit(by_hand)(*arguments)
    expected_loss, expected = jax.jit(plain)(*arguments)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for left, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-7)


def test_without_a_gradient_it_is_the_same_loss():
    arguments = make_arguments(300)
    loss = output_layer.mean_cross_entropy(*arguments)
    np.testing.assert_allclose(loss, plain_loss(*arguments), rtol=1e-5)


def test_large_logits_do_not_overflow():
    outputs, embedding, bias, labels = make_arguments(7)
    loss, grads = jax.value_and_grad(output_layer.mean_cross_entropy)(
        1e4 * outputs, embedding, bias, labels
    )
    assert np.isfinite(loss) and np.isfinite(grads).all()


def test_models_side_by_side():
    arguments = [make_arguments(300), make_arguments(300)]
    arguments[1] = (arguments[1][0] + 1, *arguments[1][1:])
    stacked = [np.stack(columns) for columns in zip(*arguments, strict=True)]
    grad_fn = jax.grad(output_layer.mean_cross_entropy, argnums=1)
    together = jax.vmap(grad_fn)(*stacked)
    for left, one in zip(together, arguments, strict=True):
        np.testing.assert_allclose(left, grad_fn(*one), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("num_tokens", "blocks"),
    [(1, 1), (128, 1), (130, 2), (131, 1), (700, 7), (800, 8), (1_001, 11)],
)
def test_blocks_are_equal_and_of_a_good_size(num_tokens, blocks):
    assert output_layer._count_blocks(num_tokens) == blocks
