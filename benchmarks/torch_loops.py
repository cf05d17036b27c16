"""The local steps of a job in bare PyTorch, to be compared with; imports ``torch``.

As a federated task does, every task begins from the same model; nothing is sent, mixed
or stored. Around autograd there is as little as can be: parameters are changed in
place, batches are drawn as the worker draws them.

Shapes: T updates, B samples a batch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from benchmarks.timing import Candidate
from benchmarks.workloads import BenchmarkJob, CNNSizes, LSTMSizes


def make_torch_loops(job: BenchmarkJob, num_threads: int) -> dict[str, Candidate]:
    """Return the loops to compare a job with, by name.

    Args:
      job: one with sizes.
      num_threads: that PyTorch may use, in the whole process.
    """
    torch.set_num_threads(num_threads)
    if isinstance(job.sizes, CNNSizes):
        return {
            "torch": make_cnn_loop(job, job.sizes, channels_last=False),
            "torch_channels_last": make_cnn_loop(job, job.sizes, channels_last=True),
        }
    if isinstance(job.sizes, LSTMSizes):
        return {"torch": make_lstm_loop(job, job.sizes)}
    raise ValueError("job must have sizes, got None")


def make_cnn_loop(
    job: BenchmarkJob, sizes: CNNSizes, *, channels_last: bool
) -> Candidate:
    """Return the loop of the convolutional network, [B, C, H, W] in one of two orders.

    Its ``run`` returns the losses of the last task's steps.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = copy_cnn(job.federation.variables.params, sizes)
    network = network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    images = torch.from_numpy(np.asarray(job.clients.arrays["x"])).permute(0, 3, 1, 2)
    images = images.contiguous(memory_format=layout)
    labels = torch.from_numpy(np.asarray(job.clients.arrays["y"])).long()
    params = list(network.parameters())

    def train_task(batches: Iterable[torch.Tensor]) -> list[float]:
        losses = []
        for rows in batches:
            x = (images[rows].float() / 128 - 1).contiguous(memory_format=layout)
            loss = F.cross_entropy(network(x), labels[rows])
            descend(params, torch.autograd.grad(loss, params), sizes.step_size)
            losses.append(loss.item())
        return losses

    name = "PyTorch, channels_last" if channels_last else "ratio_torch: PyTorch"
    return _make_loop(name, job, params, train_task, sizes.num_steps, sizes.batch_size)


def make_lstm_loop(job: BenchmarkJob, sizes: LSTMSizes) -> Candidate:
    """Return the loop of the language model; ``run`` as of ``make_cnn_loop``."""
    embedding, lstm, output_bias = copy_lstm(job.federation.variables.params, sizes)
    x, y = (
        torch.from_numpy(np.asarray(job.clients.arrays[name])).long()
        for name in ("x", "y")
    )
    params = [embedding, output_bias, *lstm.parameters()]
    params = [p for p in params if p.requires_grad]

    def train_task(batches: Iterable[torch.Tensor]) -> list[float]:
        losses, carry = [], None
        for rows in batches:
            tokens, labels = x[rows[0]], y[rows[0]]  # one row is a batch of texts
            inputs = F.dropout(F.embedding(tokens, embedding), sizes.dropout)
            outputs, carry = lstm(inputs, carry)
            carry = tuple(leaf.detach() for leaf in carry)
            logits = F.linear(F.dropout(outputs, sizes.dropout), embedding, output_bias)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
            grads = torch.autograd.grad(loss, params)
            descend(params, clip_by_global_norm(grads, sizes.max_norm), sizes.step_size)
            losses.append(loss.item())
        return losses

    return _make_loop(
        "ratio_torch: PyTorch, nn.LSTM", job, params, train_task, sizes.num_steps, 1
    )


def copy_cnn(params: Any, sizes: CNNSizes) -> nn.Sequential:
    """Return the same network with the same parameters."""
    kernels = [params[f"Conv_{i}"] for i in range(2 * len(sizes.features))]
    layers: list[nn.Module] = []
    for i, conv in enumerate(kernels):
        kernel = _as_tensor(conv["kernel"]).permute(3, 2, 0, 1)
        layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding="same")
        _set(layer, kernel, _as_tensor(conv["bias"]))
        layers += [layer, nn.ReLU(), *([nn.MaxPool2d(2)] if i % 2 else [])]
    side = sizes.image // 2 ** len(sizes.features)
    dense = nn.Linear(side**2 * sizes.features[-1], sizes.num_classes)
    kernel = _as_tensor(params["Dense_0"]["kernel"])  # rows in the order H, W, C
    kernel = kernel.reshape(side, side, -1, sizes.num_classes).permute(3, 2, 0, 1)
    _set(dense, kernel.flatten(1), _as_tensor(params["Dense_0"]["bias"]))
    return nn.Sequential(*layers, nn.Flatten(), dense)


def copy_lstm(
    params: Any, sizes: LSTMSizes
) -> tuple[nn.Parameter, nn.LSTM, nn.Parameter]:
    """Return embedding, layers and bias of the output, with the same values.

    PyTorch's second bias of a layer stays zero, since the model has one.
    """
    width, num_layers = sizes.width, sizes.num_layers
    lstm = nn.LSTM(width, width, num_layers, dropout=sizes.dropout)
    values = []
    for layer in params["layers"]:
        weights = [_as_tensor(layer[name]).T for name in ("input", "recurrent")]
        bias = _as_tensor(layer["biases"][0])
        values += [*weights, bias, torch.zeros_like(bias)]
    _set(lstm, *values)
    for i in range(num_layers):
        getattr(lstm, f"bias_hh_l{i}").requires_grad_(False)
    embedding, bias = (
        nn.Parameter(_as_tensor(params[name])) for name in ("embedding", "output_bias")
    )
    return embedding, lstm, bias


@torch.no_grad()
def descend(
    params: Iterable[torch.Tensor], grads: Iterable[torch.Tensor], step_size: float
) -> None:
    """Make a step of SGD in place."""
    for param, grad in zip(params, grads, strict=True):
        param.add_(grad, alpha=-step_size)


@torch.no_grad()
def clip_by_global_norm(
    grads: tuple[torch.Tensor, ...], max_norm: float
) -> tuple[torch.Tensor, ...]:
    """Shorten the gradient in place, if it is longer than ``max_norm``."""
    norm = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(grad) for grad in grads])
    )
    if norm > max_norm:
        for grad in grads:
            grad.mul_(max_norm / norm)
    return grads


def _make_loop(
    name: str,
    job: BenchmarkJob,
    params: Sequence[torch.Tensor],
    train_task: Callable[[Iterable[torch.Tensor]], list[float]],
    num_steps: int,
    batch_size: int,
) -> Candidate:
    start = [param.detach().clone() for param in params]
    draws = torch.Generator().manual_seed(0)
    order = np.asarray(job.federation.trace.client)

    def run() -> list[float]:
        losses = []
        for client in order:
            for param, value in zip(params, start, strict=True):
                param.detach().copy_(value)
            rows = _client_rows(job, int(client))
            losses = train_task(_draw_batches(rows, num_steps, batch_size, draws))
        return losses

    return Candidate(name, len(order), run)


def _client_rows(job: BenchmarkJob, client: int) -> torch.Tensor:
    begin, count = job.clients.offsets[client], job.clients.counts[client]
    rows = np.asarray(job.clients.indices[begin : begin + count])
    return torch.from_numpy(rows).long()


def _draw_batches(
    rows: torch.Tensor, num_steps: int, batch_size: int, draws: torch.Generator
) -> Iterator[torch.Tensor]:
    """Yield batches cut from a row of reshuffled passes."""
    num_passes = -(-num_steps * batch_size // len(rows))
    passes = [
        rows[torch.randperm(len(rows), generator=draws)] for _ in range(num_passes)
    ]
    yield from torch.cat(passes).split(batch_size)[:num_steps]


def _as_tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(values))  # a copy: JAX's cannot be written to


def _set(module: nn.Module, *values: torch.Tensor) -> None:
    """Set all parameters of a module, in its order."""
    for param, value in zip(module.parameters(), values, strict=True):
        param.detach().copy_(value)
