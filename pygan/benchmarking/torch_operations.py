"""Where a torch step's time goes, operation by operation, and what the machine's best rates are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile, record_function

from pygan.draws import Draws
from pygan.recipes.adam import OptimisersAdam
from pygan.recipes.dropout import Dropout
from pygan.stacks.torch_stack import TorchStack

Work = Callable[[], Any]


def alone(entry: Mapping[str, Any]) -> Work:
    """A function that does the operation that ``entry`` describes (``Operation.to_dict``), on values made here."""
    kind, pass_ = entry["kind"], entry["pass"]
    x = torch.randn(tuple(entry["input"]))
    if kind in ("conv", "conv_transpose"):
        return _convolution(entry, x)
    if kind == "dense":
        w, g = torch.randn(tuple(entry["weight"])), torch.randn(tuple(entry["output"]))
        return {"forward": lambda: F.linear(x, w), "input": lambda: g @ w, "weight": lambda: g.t() @ x}[pass_]
    if kind == "masks":
        return lambda: torch.from_numpy(Draws(0).keep("mask", tuple(x.shape), 0.3)).to(torch.float32).mul_(1.25)
    if kind == "noise":
        return lambda: torch.from_numpy(Draws(0).normal("noise", tuple(x.shape)))
    if kind == "optimiser":
        parameter = torch.nn.Parameter(x)
        parameter.grad = torch.randn_like(x)
        return OptimisersAdam([parameter], lr=2e-4, betas=(0.9, 0.999), eps=1e-8).step
    layer = _layer(kind, x, pass_)
    return (lambda: _without_gradient(layer, x)) if pass_ == "forward" else _forwards_and_backwards(layer, x)


def _layer(kind: str, x: Tensor, pass_: str) -> Callable[[Tensor], Tensor]:
    if kind == "batch_norm":
        channels = x.shape[1]
        layer = torch.nn.BatchNorm1d(channels) if x.dim() == 2 else torch.nn.BatchNorm2d(channels)
        layer.train(pass_ != "forward")  # alone it runs outside a gradient, as the fakes of the discriminator's step
        return lambda value: F.relu(layer(value))
    if kind == "leaky":
        return lambda value: F.leaky_relu(value, 0.2)
    if kind == "dropout":
        mask = (torch.rand_like(x) > 0.3).to(x.dtype)
        return lambda value: value * mask
    raise ValueError(f"no operation {kind!r}")


def _without_gradient(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(x)


def _forwards_and_backwards(layer: Callable[[Tensor], Tensor], x: Tensor) -> Work:
    given = torch.randn_like(x)

    def work() -> None:
        value = x.detach().requires_grad_()
        layer(value).backward(given)  # type: ignore[no-untyped-call]

    return work


def _convolution(entry: Mapping[str, Any], x: Tensor) -> Work:
    w, g = torch.randn(tuple(entry["weight"])), torch.randn(tuple(entry["output"]))
    transposed = entry["kind"] == "conv_transpose"
    stride, padding = [entry["stride"]] * 2, [entry["padding"]] * 2
    if entry["pass"] == "forward":
        return lambda: torch.convolution(x, w, None, stride, padding, [1, 1], transposed, [0, 0], 1)
    mask = [entry["pass"] == "input", entry["pass"] == "weight", False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(g, x, w, None, stride, padding, [1, 1], transposed, [0, 0], 1, mask)


# --- a profile of real steps ---------------------------------------------------------------------------------

_LINES = (
    ("Optimizer.", "optimiser"),
    ("pygan::draws", "dropout and draws"),
    ("pygan::dropout", "dropout and draws"),
    ("aten::convolution_backward", "convolutions, gradients"),
    ("aten::conv", "convolutions, forward"),
    ("batch_norm", "BatchNorm"),
    ("NativeBatchNorm", "BatchNorm"),
    ("aten::linear", "dense layers"),
    ("aten::addmm", "dense layers"),
    ("aten::mm", "dense layers"),
    ("dropout", "dropout and draws"),
    ("bernoulli", "dropout and draws"),
    ("leaky_relu", "activations"),
    ("relu", "activations"),
    ("threshold_backward", "activations"),
    ("tanh", "activations"),
)
REST = "rest"


class _NamedDraws(Draws):
    """Draws that show in the profile."""

    def at(self, step: int) -> Draws:
        return _NamedDraws(self.seed, step)

    def normal(self, stream: str, shape: tuple[int, ...]) -> np.ndarray:
        with record_function("pygan::draws"):
            return super().normal(stream, shape)

    def keep(self, stream: str, shape: tuple[int, ...], rate: float) -> np.ndarray:
        with record_function("pygan::draws"):
            return super().keep(stream, shape, rate)


def profiled(stack: TorchStack, batches: Sequence[np.ndarray], seed: int) -> dict[str, Any]:
    """Seconds a step by line, from the profiler's own times of every operator, and the seconds of a step meanwhile.

    What the operators do not explain (Python between them, reading losses) is in ``rest``.
    """
    stack.initialise()
    stack.time_steps(batches[:1], Draws(seed))
    before = Dropout.forward

    def shown(self: Dropout, x: Tensor) -> Tensor:
        with record_function("pygan::dropout"):
            return before(self, x)

    Dropout.forward = shown  # type: ignore[method-assign]
    try:
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            start = time.perf_counter()
            stack.time_steps(batches, _NamedDraws(seed))
            wall = time.perf_counter() - start
    finally:
        Dropout.forward = before  # type: ignore[method-assign]
    seconds: dict[str, float] = {}
    for event in recorded.events() or ():
        line = _line_of(event)
        seconds[line] = seconds.get(line, 0.0) + event.self_cpu_time_total / 1e6
    seconds[REST] = seconds.get(REST, 0.0) + max(0.0, wall - sum(seconds.values()))
    steps = len(batches)
    return {"seconds": {line: value / steps for line, value in seconds.items()}, "step": wall / steps}


def _line_of(event: Any) -> str:
    """The line of the outermost operator around ``event`` that has one."""
    found, one = REST, event
    while one is not None:
        found = next((line for word, line in _LINES if word in one.name), found)
        one = one.cpu_parent
    return found


# --- what the machine does at best ---------------------------------------------------------------------------


def best(work: Work, seconds: float = 0.4) -> float:
    """The shortest of many timings of ``work``, for about so long."""
    work()
    shortest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def rates() -> dict[str, Any]:
    """Best rates on this process's threads: sgemm and memory (read and write together, at several sizes)."""
    sgemm = {}
    for size in (512, 1024, 2048):
        a, b, c = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
        sgemm[str(size)] = 2 * size**3 / best(lambda a=a, b=b, c=c: torch.mm(a, b, out=c))  # type: ignore[misc]
    memory = {}
    for size in (1 << 20, 1 << 22, 1 << 24, 1 << 26):  # elements: 4 MB to 256 MB
        a, c = torch.ones(size), torch.empty(size)
        memory[str(4 * size)] = 8 * size / best(lambda a=a, c=c: c.copy_(a))  # type: ignore[misc]
    return {"sgemm_flop_per_second": sgemm, "copy_bytes_per_second": memory, "threads": torch.get_num_threads()}
