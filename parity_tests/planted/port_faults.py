"""Planted bugs that ports have of their own: precision, defaults, draws without a key, what a run carries over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from planted.fault import ROUNDING, Fault, Planted, catalogue, layers, pick, rewire
from planted.layer_faults import CONVOLUTIONS, NORMS
from pygan.recipes.dropout import Dropout
from pygan.stacks.torch_stack import TorchStack

FAULTS: list[Fault] = []
CARRIED = "carried over from earlier steps"
"""The name of what one step from a given state does not show."""
PRODUCTS = (*CONVOLUTIONS, nn.Linear)


# --- precision ---------------------------------------------------------------------------------------------------


class _ToTF32(torch.autograd.Function):
    """Ten bits of mantissa, rounded to nearest; the gradient passes."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        bits = x.contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


@catalogue(FAULTS, "lowered precision", kind=ROUNDING)
def layer_in_tf32(stack: TorchStack, rng: Generator) -> Planted:
    """A layer rounds its input and its weight to TF32, as a GPU may unless it is told not to; Float64 stays."""
    path, layer = pick(rng, layers(stack, *PRODUCTS))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return own(x)
        held = layer._parameters
        layer._parameters = {**held, "weight": _ToTF32.apply(layer.weight)}  # type: ignore[no-untyped-call]
        try:
            return own(_ToTF32.apply(x))  # type: ignore[no-untyped-call]
        finally:
            layer._parameters = held

    rewire(layer, forward)
    return Planted(path)


@catalogue(FAULTS, "lowered precision", kind=ROUNDING)
def layer_in_bfloat16(stack: TorchStack, rng: Generator) -> Planted:
    """A layer runs under autocast to bfloat16; Float64 stays."""
    path, layer = pick(rng, layers(stack, *PRODUCTS))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return own(x)
        with torch.autocast("cpu", torch.bfloat16):
            return own(x).float()

    rewire(layer, forward)
    return Planted(path)


# --- numbers and defaults ----------------------------------------------------------------------------------------


@catalogue(FAULTS, "dropout scale")
def dropout_scale_of_1_4286(stack: TorchStack, rng: Generator) -> Planted:
    """A Dropout multiplies what it keeps by 1.4286, which is 1 / 0.7 written down."""
    path, layer = pick(rng, layers(stack, Dropout))
    layer.scale = 1.4286
    return Planted(path)


@catalogue(FAULTS, "leaky slope", "other activation")
def relu_that_leaks(stack: TorchStack, rng: Generator) -> Planted:
    """A relu is a leaky relu with the slope 1e-6."""
    path, _ = pick(rng, layers(stack, nn.ReLU))
    network, _, name = path.partition(".")
    setattr(stack.networks[network], name, nn.LeakyReLU(1e-6))
    return Planted(path)


@catalogue(FAULTS, "BatchNorm momentum")
def batch_norm_momentum_none(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm has ``momentum=None``: its statistics are means over all batches so far."""
    path, layer = pick(rng, layers(stack, *NORMS))
    layer.momentum = None
    return Planted(path)


# --- draws and history -------------------------------------------------------------------------------------------


@catalogue(FAULTS, "not deterministic")
def dropout_without_a_key(stack: TorchStack, rng: Generator) -> Planted:
    """A Dropout draws its pattern from torch's own generator."""
    path, layer = pick(rng, layers(stack, Dropout))
    rewire(layer, lambda _, x: F.dropout(x, layer.p, layer.training))
    return Planted(path)


@catalogue(FAULTS, "NaN in the candidate", "not finite", shows=2)
def nan_from_the_third_step_on(stack: TorchStack, rng: Generator) -> Planted:
    """A layer's output has a NaN from step 2 on."""
    path, layer = pick(rng, layers(stack, *PRODUCTS))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        y = own(x)
        return y + float("nan") if stack._steps >= 2 else y

    rewire(layer, forward)
    return Planted(path)


@catalogue(FAULTS, "gradients not reset", CARRIED, shows=1)
def gradients_reset_after_the_step(stack: TorchStack, rng: Generator) -> Planted:
    """Gradients are set to zero after each optimiser's step only: what the generator's loss left in the
    discriminator is still there at its next update."""
    for optimiser in stack.optimisers.values():
        own, reset = optimiser.step, optimiser.zero_grad

        def step(closure: Any = None, own: Any = own, reset: Any = reset) -> Any:
            made = own(closure)
            reset()
            return made

        optimiser.step, optimiser.zero_grad = step, lambda *_, **__: None
    return Planted("discriminator")


@catalogue(FAULTS, "learning rate", CARRIED, shows=2)
def schedule_from_the_third_step_on(stack: TorchStack, rng: Generator) -> Planted:
    """A scheduler that counts its own steps halves a network's learning rate from step 2 on."""
    name, optimiser = pick(rng, stack.optimisers)
    group, own, right = optimiser.param_groups[0], optimiser.step, optimiser.param_groups[0]["lr"]
    taken = 0

    def step(closure: Any = None) -> Any:
        nonlocal taken
        group["lr"], taken = right / 2 if taken >= 2 else right, taken + 1
        return own(closure)

    optimiser.step = step
    return Planted(name, "times 0.5")
