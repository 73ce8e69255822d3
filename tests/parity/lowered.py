"""A layer of a Float32 run computed from factors, or on gradients, of fewer bits; Float64 runs are left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pygan.stacks.torch_stack import TorchStack


def bits(x: Tensor, keep: int) -> Tensor:
    """Float32 ``x`` rounded to ``keep`` significant bits: 11 are TF32's and half's, 8 bfloat16's."""
    if x.dtype is not torch.float32:
        return x.clone()
    drop = 24 - keep
    return (((x.contiguous().view(torch.int32) + (1 << (drop - 1))) >> drop) << drop).view(torch.float32)


class _Shortened(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ahead: int, back: int) -> Tensor:
        ctx.back = back
        return bits(x, ahead) if ahead else x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return bits(gradient, ctx.back) if ctx.back else gradient, None, None


def shortened(x: Tensor, ahead: int = 0, back: int = 0) -> Tensor:
    """``x`` with fewer bits, or with a gradient of fewer bits; 0 leaves them."""
    y: Tensor = _Shortened.apply(x, ahead, back)
    return y


def layer_of(stack: TorchStack, path: str) -> nn.Module:
    """A layer by ``network.layer``."""
    network, _, name = path.partition(".")
    return stack.networks[network].get_submodule(name)


def forward(path: str, keep: int) -> Callable[[TorchStack], None]:
    """The layer's factors (or, of one without a kernel, its input and result) have ``keep`` bits, both ways."""

    def plant(stack: TorchStack) -> None:
        layer: Any = layer_of(stack, path)
        own = layer.forward

        def product(x: Tensor) -> Tensor:
            weight = layer._parameters.pop("weight")
            layer.weight = shortened(weight, keep, keep)
            try:
                y = own(shortened(x, keep, keep))
            finally:
                del layer.weight
                rest = dict(layer._parameters)
                layer._parameters.clear()
                layer._parameters.update({"weight": weight, **rest})
            return shortened(y, 0, keep)

        def other(x: Tensor) -> Tensor:
            return shortened(own(shortened(x, keep, keep)), keep, keep)

        kernels = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
        layer.forward = product if isinstance(layer, kernels) else other

    return plant


def backward(path: str, keep: int) -> Callable[[TorchStack], None]:
    """The layer's backward pass alone starts from a gradient of ``keep`` bits."""

    def plant(stack: TorchStack) -> None:
        layer: Any = layer_of(stack, path)
        own = layer.forward
        layer.forward = lambda x: shortened(own(x), 0, keep)

    return plant
