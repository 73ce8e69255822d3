"""Benign variants of the torch stack: they compute the same step in another order of rounding, and must raise no alarm.

Each is what a port, a library or a machine may do without being wrong: other threads, no oneDNN, channels-last memory,
the loss through softplus, pictures in one batch, Adam's corrections as torch writes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.recipes import StepContext, flux_tutorial, torch_recipe
from pygan.recipes.adam import OptimisersAdam
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_run import Run
from pygan.stacks.torch_stack import TorchStack


class OtherThreads(TorchStack):
    """The same stack; the config gives it another number of threads."""

    step_form = "threads"


class WithoutOneDNN(TorchStack):
    """torch's own loops in place of oneDNN's kernels."""

    step_form = "without-onednn"

    def step(self, *arguments: Any, **how: Any) -> Any:
        with onednn_off():
            return super().step(*arguments, **how)

    def generate(self, *arguments: Any) -> Any:
        with onednn_off():
            return super().generate(*arguments)


@contextmanager
def onednn_off() -> Iterator[None]:
    """``torch.backends.mkldnn.flags`` sets TF32 too, and warns of that."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


class _ChannelsLastRun(Run):
    def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
        return super().call(name, network, _channels_last(x), train=train)


class ChannelsLast(TorchStack):
    """Images and kernels with their channels last in memory."""

    step_form = "channels-last"
    run_class = _ChannelsLastRun

    def initialise(self) -> None:
        super().initialise()
        for network in self.networks.values():
            network.to(memory_format=torch.channels_last)
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    layer.register_forward_pre_hook(lambda _, inputs: _channels_last(inputs[0]))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


# --- the recipe written otherwise --------------------------------------------------------------------------------


def softplus_bce(logits: Tensor, label: float) -> Tensor:
    """Cross-entropy of raw logits as ``softplus(-x)`` for label 1 and ``softplus(x)`` for label 0."""
    return F.softplus(-logits if label else logits, threshold=40).mean()


class TorchStyleAdam(OptimisersAdam):
    """Adam in torch's order of operations, its bias corrections made anew from the count of updates, in Python."""

    @staticmethod
    def _update(x: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        m, v, power = state["exp_avg"], state["exp_avg_sq"], state["beta_power"]
        b1, b2 = group["betas"]
        t = round(math.log(float(power[1])) / math.log(b2))
        m.lerp_(g, 1 - b1)
        v.mul_(b2).addcmul_(g, g, value=1 - b2)
        denominator = (v.sqrt() / math.sqrt(1 - b2**t)).add_(group["eps"])
        x.addcdiv_(m, denominator, value=-group["lr"] / (1 - b1**t))
        power.mul_(torch.tensor(group["betas"], dtype=x.dtype))


def pictures_at_once(run: StepContext, latent: Tensor) -> Tensor:
    """All pictures in one batch."""
    with torch.no_grad():
        return run.call("picture", "generator", latent, train=False)


def _with(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    """``function`` with other things behind the names that it uses."""
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__, {**function.__globals__, **changes}, function.__name__)


BCE = {"train_step": _with(flux_tutorial.train_step, bce=softplus_bce)}
PICTURES = {"pictures": pictures_at_once}
ADAM = {"optimisers": _with(flux_tutorial.optimisers, OptimisersAdam=TorchStyleAdam)}


def rewritten(form: str, changes: Mapping[str, Callable[..., Any]]) -> type[TorchStack]:
    """A torch stack whose recipe has other functions of the same meaning."""

    class Rewritten(TorchStack):
        step_form = form

        def initialise(self) -> None:
            recipe = torch_recipe(self.config.recipe)
            self._recipe = SimpleNamespace(**{**vars(recipe), **changes})  # type: ignore[assignment]
            super().initialise()

    return Rewritten


CANDIDATES: dict[str, Callable[[Any], TorchStack]] = {
    "other threads": OtherThreads,
    "the fast step": FastTorchStack,
    "oneDNN off": WithoutOneDNN,
    "channels last": ChannelsLast,
    "BCE through softplus": rewritten("softplus", BCE),
    "pictures in one batch": rewritten("pictures", PICTURES),
    "Adam's corrections as torch writes them": rewritten("adam", ADAM),
    "all three rewrites": rewritten("rewritten", {**BCE, **PICTURES, **ADAM}),
}
"""What makes a candidate, by its words."""
CAPS: dict[str, dict[str, str]] = {
    "no SIMD beyond SSE4.1": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
    "no SIMD beyond AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}
"""Environment variables of a process whose torch uses no wider instructions."""
