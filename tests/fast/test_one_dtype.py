"""Which code a dtype takes: at full precision the same in Float32 as in Float64, so that a Float64 step tests both. The
branches that a Float32 run alone takes, at lowered precision, are tested by themselves
(``pygan/stacks/fast/__init__.py`` lists them)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from static_runs import EVERYTHING, batches, config
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pygan.draws import Draws
from pygan.stacks.fast.dense import SharedLinear
from pygan.stacks.fast.fourier import FourierConvTranspose2d
from pygan.stacks.fast.layers import fast_layer
from pygan.stacks.fast.patches import PatchConv2d, PatchConvTranspose2d
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.fast.static import StaticTorchStack


class Operations(TorchDispatchMode):
    """The names of torch's operations in their order, forwards and backwards, but for conversions."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.ops.aten._to_copy.default:  # the batch and the noise come in Float32
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def operations(kind: type[FastTorchStack], dtype: str, **how: Any) -> list[str]:
    stack = kind(config(dtype), **how)
    stack.step(batches()[0], Draws(0))
    with Operations() as seen:
        stack.step(batches()[1], Draws(0, 1))
        stack.step(batches()[2], Draws(0, 2), ("logits", "gradients", "patterns", "state"))
    return seen.names


@pytest.mark.parametrize("kind", [FastTorchStack, StaticTorchStack])
def test_a_step_calls_the_same_operations_in_both_dtypes(kind: type[FastTorchStack]) -> None:
    names = operations(kind, "float64")
    assert names == operations(kind, "float32") and len(names) > 1000
    assert names != operations(kind, "float32", precision="bf16")


# --- bfloat16: what autocast hands to the layers that compute in Float32 all the same ------------------------


def assert_computed_in_float32(layer: nn.Module, x: Tensor) -> None:
    """Output, running statistics and gradients are those of the Float32 call on the same values."""
    results = []
    for low in (True, False):
        given = x.detach().clone() if low else x.detach().float()
        given.requires_grad_()
        for buffer in layer.buffers():
            buffer.zero_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            y = layer(given)
        assert y.dtype is torch.float32
        gradients = torch.autograd.grad(y.square().sum(), [given, *layer.parameters()])
        assert gradients[0].dtype is given.dtype
        results.append([y.detach(), gradients[0].bfloat16(), *gradients[1:], *(one.clone() for one in layer.buffers())])
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("plain", "kind", "size"),
    [
        (nn.Conv2d(1, 4, 4, stride=2, padding=1), PatchConv2d, 8),
        (nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1, bias=False), PatchConvTranspose2d, 8),
        (nn.ConvTranspose2d(4, 3, 5, padding=2, bias=False), FourierConvTranspose2d, 7),
    ],
    ids=["patches", "patches transposed", "fourier"],
)
def test_own_convolutions_stay_in_float32_under_autocast(plain: Any, kind: type, size: int) -> None:
    torch.manual_seed(0)
    layer = fast_layer(plain)
    assert type(layer) is kind
    assert_computed_in_float32(layer, torch.randn(3, plain.in_channels, size, size).bfloat16())


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4, 3)], ids=["features", "maps"])
def test_batch_norm_stays_in_float32_under_autocast(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = fast_layer(nn.BatchNorm1d(5) if len(shape) == 2 else nn.BatchNorm2d(5))
    assert_computed_in_float32(layer, torch.randn(shape).bfloat16())


def test_the_dense_layer_is_not_shared_under_autocast() -> None:
    """What a call keeps would be of another dtype than the next call's, were only one of them under autocast."""
    layer, x = SharedLinear(3, 2), torch.ones(4, 3)
    for low in (True, False):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            layer(x)
        assert (layer._kept is None) is low


def test_a_call_is_under_autocast_and_gives_and_keeps_float32() -> None:
    stack = FastTorchStack(config("float32"), precision="bf16")
    run = stack.run_class(stack, Draws(0))
    assert run.call("real", "discriminator", run.tensor(batches()[0]), train=True).dtype is torch.float32
    record = stack.step(batches()[0], Draws(0), EVERYTHING)
    assert {value.dtype for value in (*record.activation.values(), *record.gradient.values())} == {np.dtype(np.float32)}

    def in_bfloat16(key: str) -> bool:
        value = torch.from_numpy(record.activation[key])
        return torch.equal(value.bfloat16().float(), value)

    assert in_bfloat16("real/discriminator.conv2") and in_bfloat16("generator/generator.conv2")
    assert not in_bfloat16("real/discriminator.conv1") and not in_bfloat16("generator/generator.norm2")
