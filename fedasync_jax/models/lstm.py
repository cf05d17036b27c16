"""The recurrent language model of the paper's WikiText-2 experiments.

Shapes: V tokens in the vocabulary, E width of the embedding, H of a layer, L layers,
T tokens a text, B texts side by side, N batches in a row.
References: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
section 5.2; Hochreiter, Schmidhuber, "Long Short-Term Memory", 1997; Press, Wolf,
"Using the Output Embedding to Improve Language Models", EACL 2017.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedasync_jax.base import Array, Model, PyTree, Variables
from fedasync_jax.models.output_layer import compute_logits, mean_cross_entropy
from fedasync_jax.models.outputs import sum_metrics
from fedasync_jax.parts.bounds import FRACTION, Bounds, at_least


def make_lstm_lm(
    vocab_size: int = 33278,
    *,
    embed: int = 200,
    hidden: int = 200,
    num_layers: int = 2,
    dropout: float = 0.2,
    num_biases: int = 1,
    batch_size: int = 20,
    carried: bool = True,
) -> Model:
    """Make a language model: embedding, LSTM layers, the embedding again as output.

    A layer computes, from inputs x and its own output h of the token before,

        i, f, g, o = x W_x + h W_h + b,  in this order in one matrix,
        c <- sigmoid(f) c + sigmoid(i) tanh(g),  h <- sigmoid(o) tanh(c),

    and the logits are h W_e^T + b_e with the embedding W_e [V, E]. In training, dropout
    works on the input of every layer and on the output of the last. Weights of a layer
    begin in U(-1/sqrt(H), 1/sqrt(H)), the embedding in U(-0.1, 0.1), biases at zero.

    If not ``carried``, every text stands alone and begins with (h, c) = 0: a batch is
    ``{"x": int [B, T], "y": int [B, T]}``, and a "sample" of a ``ClientData`` is one
    text. What follows is about the other case: texts that go on from batch to batch.

    A batch is ``{"x": int [N, T, B], "y": int [N, T, B]}``, y the tokens that follow x.
    So one "sample" of a ``ClientData`` is B texts of T tokens, and
    ``make_local_update(batch_size=1)`` takes one of them each step. In training, N
    in a row count as one text of N T tokens.

    (h, c) of every layer are zero when a task starts, pass from batch to batch within
    it in ``Variables.state``, detached, and are gone at its end: what is sent, returned
    and mixed has the state ``()``. With that state ``loss`` begins at zero.

    ``metrics`` begins at zero, too, and takes the N batches in order, carrying (h, c);
    it returns sums over all tokens of ``"loss"``, ``"correct"`` and ``"count"``. The
    perplexity is exp(loss / count). A data set must be evaluated by one call of it for
    (h, c) to be carried all the way, see ``batch_size`` of ``make_evaluate``.

    The defaults make 7,330,478 parameters. Characters are tokens as well:
    ``make_lstm_lm(65)``.

    Args:
      vocab_size: V >= 2.
      embed: E, and H of the last layer, whose output meets the embedding.
      hidden: H of all other layers.
      num_layers: L >= 1.
      dropout: share of entries set to zero, in [0, 1).
      num_biases: vectors that b is the sum of, 1 or 2. cuDNN has two, and so 7,332,078
        parameters: the same function, but b moves twice as far in a step of SGD.
      batch_size: B in training; ``metrics`` takes any. Not read if not ``carried``.
      carried: whether (h, c) pass from batch to batch.

    Raises:
      ValueError: if a number is out of range.
    """
    # Sizes: what is wrong is told before anything is traced.
    sizes = {
        "embed": embed,
        "hidden": hidden,
        "num_layers": num_layers,
        "batch_size": batch_size,
    }
    for name, number in sizes.items():
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
    if vocab_size < 2:
        raise ValueError(f"vocab_size must be >= 2, got {vocab_size}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    if num_biases not in (1, 2):
        raise ValueError(f"num_biases must be 1 or 2, got {num_biases}")
    widths = (embed, *(hidden,) * (num_layers - 1), embed)

    # Parameters; (h, c) are no part of a model that is sent.
    def init(key: Array) -> Variables:
        return Variables(_init_params(key, vocab_size, widths, num_biases))

    # Training: (h, c) come from the batch before, detached, and go to the next one.
    def loss(variables: Variables, batch: PyTree, key: Array) -> tuple[Array, PyTree]:
        x, y = (_join_texts(batch[name]) for name in ("x", "y"))
        carries = lax.stop_gradient(variables.state) or _zeros(widths, x.shape[1])
        _require_width(carries, x.shape[1])
        params = variables.params
        outputs, carries = _compute_outputs(params, x, carries, dropout, key)
        mean = mean_cross_entropy(
            outputs.reshape(-1, embed),
            params["embedding"],
            params["output_bias"],
            y.reshape(-1),
        )
        return mean, carries if variables.state else ()

    # Evaluation: from zero through all batches, in order.
    def metrics(variables: Variables, batch: PyTree) -> dict[str, Array]:
        def step(carries: PyTree, batch: PyTree) -> tuple[PyTree, dict[str, Array]]:
            params = variables.params
            outputs, carries = _compute_outputs(params, batch["x"], carries)
            logits = compute_logits(outputs, params["embedding"], params["output_bias"])
            return carries, sum_metrics(logits, batch["y"])

        start = _zeros(widths, batch["x"].shape[2])
        _, sums = lax.scan(step, start, {name: batch[name] for name in ("x", "y")})
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), sums)

    # A task begins with (h, c) = 0 and takes them away at its end.
    if not carried:
        return _make_uncarried(Model(init, loss, metrics))
    return Model(
        init,
        loss,
        metrics,
        start_task=lambda state: _zeros(widths, batch_size),
        end_task=lambda state: (),
    )


def make_lstm(
    vocab_size: int,
    columns: int | None,
    size: Annotated[int, at_least(1)] = 200,
    layers: Annotated[int, at_least(1)] = 2,
    biases: Annotated[int, Bounds(1, 2)] = 1,
    dropout: Annotated[float, FRACTION] = 0.25,
) -> Model:
    """Return the model of a text; see ``make_lstm_lm``.

    Args:
      vocab_size: V.
      columns: B, if (h, c) pass from batch to batch.
      size: width of the embedding and of the layers.
      layers: number of layers.
      biases: bias vectors per layer: 1, or 2 as in cuDNN.
      dropout: share of entries that dropout sets to zero, in [0, 1).
    """
    return make_lstm_lm(
        vocab_size,
        embed=size,
        hidden=size,
        num_layers=layers,
        dropout=dropout,
        num_biases=biases,
        batch_size=columns or 1,
        carried=columns is not None,
    )


def _make_uncarried(model: Model) -> Model:
    """Return a model of batches [B, T], from one of a single batch [1, T, B]."""

    def turn(batch: PyTree) -> PyTree:
        return {name: batch[name].T[None] for name in ("x", "y")}

    def loss(variables: Variables, batch: PyTree, key: Array) -> tuple[Array, PyTree]:
        return model.loss(variables, turn(batch), key)

    def metrics(variables: Variables, batch: PyTree) -> dict[str, Array]:
        return model.metrics(variables, turn(batch))

    return model._replace(loss=loss, metrics=metrics)


class _Carry(NamedTuple):
    """What a layer remembers.

    Attributes:
      output: h, float [B, H].
      cell: c, float [B, H].
    """

    output: Array
    cell: Array


def _init_params(
    key: Array, vocab_size: int, widths: Sequence[int], num_biases: int
) -> PyTree:
    embedding_key, *layer_keys = jax.random.split(key, len(widths))
    layers = zip(layer_keys, widths[:-1], widths[1:], strict=True)
    return {
        "embedding": _draw(embedding_key, (vocab_size, widths[0]), 0.1),
        "layers": [
            _init_layer(layer_key, num_inputs, width, num_biases)
            for layer_key, num_inputs, width in layers
        ],
        "output_bias": jnp.zeros(vocab_size),
    }


def _init_layer(key: Array, num_inputs: int, width: int, num_biases: int) -> PyTree:
    input_key, recurrent_key = jax.random.split(key)
    return {
        "input": _draw(input_key, (num_inputs, 4 * width), width**-0.5),
        "recurrent": _draw(recurrent_key, (width, 4 * width), width**-0.5),
        "biases": jnp.zeros((num_biases, 4 * width)),
    }


def _draw(key: Array, shape: tuple[int, ...], bound: float) -> Array:
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _zeros(widths: Sequence[int], batch_size: int) -> PyTree:
    return tuple(
        _Carry(jnp.zeros((batch_size, width)), jnp.zeros((batch_size, width)))
        for width in widths[1:]
    )


def _join_texts(tokens: Array) -> Array:
    """Return [N, T, B] as [N T, B]."""
    return tokens.reshape(-1, tokens.shape[2])


def _compute_outputs(
    params: PyTree,
    tokens: Array,
    carries: PyTree,
    dropout: float = 0.0,
    key: Array | None = None,
) -> tuple[Array, PyTree]:
    """Return outputs [T, B, E] on tokens [T, B], and what the layers remember."""
    num_drops = len(params["layers"]) + 1
    keys = [None] * num_drops if key is None else jax.random.split(key, num_drops)
    outputs = params["embedding"][tokens]
    ends = []
    for layer, carry, layer_key in zip(params["layers"], carries, keys, strict=False):
        outputs, end = _run_layer(layer, _drop(outputs, dropout, layer_key), carry)
        ends.append(end)
    return _drop(outputs, dropout, keys[-1]), tuple(ends)


def _run_layer(layer: PyTree, inputs: Array, carry: _Carry) -> tuple[Array, _Carry]:
    """Return the outputs [T, B, H] on inputs [T, B, .], and the last carry."""
    bias = jnp.sum(layer["biases"], axis=0)
    from_inputs = inputs @ layer["input"] + bias[None, None]  # all tokens at once

    def step(carry: _Carry, from_input: Array) -> tuple[_Carry, Array]:
        gates = from_input + carry.output @ layer["recurrent"]
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * carry.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        output = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return _Carry(output, cell), output

    end, outputs = lax.scan(step, carry, from_inputs)
    return outputs, end


def _drop(values: Array, rate: float, key: Array | None) -> Array:
    if key is None or rate == 0:
        return values
    kept = jax.random.bernoulli(key, 1 - rate, values.shape)
    return jnp.where(kept, values / (1 - rate), 0)


def _require_width(carries: PyTree, batch_size: int) -> None:
    expected = carries[0].output.shape[0]
    if batch_size != expected:
        raise ValueError(
            f"x and y must be [N, T, {expected}] in training, as batch_size says, "
            f"got {batch_size} texts"
        )
