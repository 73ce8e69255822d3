"""Planted bugs that show late or in one corner: at one step, in eval mode, in pictures, in a buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from planted.fault import PICTURES, Context, Fault, Planted, catalogue, layers, pick, rewire, through
from planted.layer_faults import NORMS
from planted.port_faults import CARRIED
from pygan.stacks.torch_stack import TorchStack

FAULTS: list[Fault] = []


def before_the_update(stack: TorchStack, name: str, change: Callable[[], None]) -> None:
    """``change()`` runs before every step of the optimiser of ``name``."""
    own = stack.optimisers[name].step

    def step(closure: Any = None) -> Any:
        change()
        return own(closure)

    stack.optimisers[name].step = step  # type: ignore[method-assign]


@catalogue(FAULTS, "learning rate", CARRIED, shows=10)
def schedule_at_step_10(stack: TorchStack, rng: Generator) -> Planted:
    """A network's learning rate is a tenth from step 10 on."""
    name, optimiser = pick(rng, stack.optimisers)
    group, right = optimiser.param_groups[0], optimiser.param_groups[0]["lr"]

    def change() -> None:
        group["lr"] = right / 10 if stack._steps >= 10 else right

    before_the_update(stack, name, change)
    return Planted(name, "times 0.1")


def clip_at(stack: TorchStack, rng: Generator, number: int) -> Planted:
    """The gradients of a network are longer than the limit of their clipping at step ``number`` alone."""
    name = pick(rng, stack.optimisers.keys())
    parameters = list(stack.networks[name].parameters())

    def change() -> None:
        if stack._steps == number:
            norm = torch.cat([one.grad.flatten() for one in parameters if one.grad is not None]).norm()
            torch.nn.utils.clip_grad_norm_(parameters, 0.8 * float(norm))

    before_the_update(stack, name, change)
    return Planted(name, "to 0.8 of the norm")


@catalogue(FAULTS, "gradient clipped", "gradient scaled", shows=6)
def clip_that_bites_at_step_6(stack: TorchStack, rng: Generator) -> Planted:
    """A network's gradients are clipped by their norm, which is over the limit at step 6."""
    return clip_at(stack, rng, 6)


@catalogue(FAULTS, "gradient clipped", "gradient scaled", shows=12)
def clip_that_bites_at_step_12(stack: TorchStack, rng: Generator) -> Planted:
    """A network's gradients are clipped by their norm, which is over the limit at step 12."""
    return clip_at(stack, rng, 12)


@catalogue(FAULTS, "BatchNorm eps")
def batch_norm_eps_in_eval_mode_only(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm has eps = 1e-3 in eval mode and the right one in train mode."""
    path, layer = pick(rng, layers(stack, *NORMS))
    right = layer.eps

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        layer.eps = right if layer.training else 1e-3
        try:
            return own(x)
        finally:
            layer.eps = right

    rewire(layer, forward)
    return Planted(f"sample/{path}", "0.001")


@catalogue(FAULTS, "train or eval mode")
def fakes_drawn_in_train_mode(stack: TorchStack, rng: Generator) -> Planted:
    """The fakes for the discriminator's update are drawn in train mode: they see other statistics, and move them."""

    class Trained(Context):
        def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
            return self.run.call(name, network, x, train=train or name == "sample")

    through(stack, Trained)
    return Planted("sample/generator")


@catalogue(FAULTS, "other activation")
def tanh_good_to_a_billionth(stack: TorchStack, rng: Generator) -> Planted:
    """Tanh is an approximation with a relative error of up to 1e-9."""
    rewire(stack.networks["generator"].tanh, lambda own, x: own(x) * (1 + 1e-9 * torch.sin(1e7 * x)))
    return Planted("generator.tanh", "1e-9")


@catalogue(FAULTS, "NaN in the candidate", "not finite")
def nan_in_a_buffer_only(stack: TorchStack, rng: Generator) -> Planted:
    """A running variance becomes NaN in train mode; what the step computes does not see it."""
    path, layer = pick(rng, layers(stack, *NORMS))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        y = own(x)
        if layer.training:
            layer.running_var.data[0] = float("nan")  # autograd holds the tensor
        return y

    rewire(layer, forward)
    return Planted(f"{path}.running_var")


@catalogue(FAULTS, "stale buffers", "train or eval mode", shows=PICTURES)
def pictures_with_stale_statistics(stack: TorchStack, rng: Generator) -> Planted:
    """Pictures are drawn with the running statistics that BatchNorm starts from."""
    own = stack.generate

    def generate(latent: np.ndarray) -> np.ndarray:
        found = [one for one in stack.networks["generator"].modules() if isinstance(one, NORMS)]
        held = [(one.running_mean.clone(), one.running_var.clone()) for one in found]
        for one in found:
            one.reset_running_stats()
        drawn = own(latent)
        for one, (mean, variance) in zip(found, held, strict=True):
            one.running_mean.copy_(mean)
            one.running_var.copy_(variance)
        return drawn

    stack.generate = generate  # type: ignore[method-assign]
    return Planted("pictures")
