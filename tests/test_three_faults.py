"""A port with three faults at once, mended one after the other by what ``pygan parity`` says alone, without Julia."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parity_runs import offered, planted, pygan  # noqa: F401
from run_pygan import Pygan
from torch import nn
from torch.nn import functional as F

from pygan.parity.causes import CAUSES
from pygan.recipes import torch_recipe
from pygan.stacks.torch_stack import TorchStack

Fault = Callable[[TorchStack], Any]


def eps_of_keras(stack: TorchStack) -> None:
    stack.networks["generator"].norm2.eps = 1e-3  # type: ignore[assignment, union-attr]


def kernel_as_flux_has_it(stack: TorchStack) -> None:
    layer: Any = stack.networks["generator"].conv3
    layer.forward = lambda x: F.conv_transpose2d(x, layer.weight.flip(2, 3), None, layer.stride, layer.padding)


def beta_of_the_paper(stack: TorchStack) -> None:
    for optimiser in stack.optimisers.values():
        optimiser.param_groups[0]["betas"] = (0.5, 0.999)


def summed_loss(stack: TorchStack) -> None:
    right: Any = torch_recipe(stack.config.recipe)

    def train_step(run: Any, real: torch.Tensor) -> None:
        record, update = run.record, run.update
        run.record = lambda kind, name, value: record(kind, name, value * (len(real) if kind == "loss" else 1))
        run.update = lambda network, loss: update(network, loss * len(real))
        right.train_step(run, real)

    stack._recipe = SimpleNamespace(**{**vars(right), "train_step": train_step})  # type: ignore[assignment]


def clipped_weights(stack: TorchStack) -> None:
    optimiser = stack.optimisers["discriminator"]
    own = optimiser.step

    def step(closure: Any = None) -> Any:
        made = own(closure)
        with torch.no_grad():
            for parameter in stack.networks["discriminator"].parameters():
                parameter.clamp_(-0.01, 0.01)
        return made

    optimiser.step = step  # type: ignore[method-assign]


def leak(stack: TorchStack) -> None:
    layer: Any = stack.networks["discriminator"].leaky2
    stack.networks["discriminator"].leaky2 = nn.LeakyReLU(layer.negative_slope / 2)


PORTS: dict[str, dict[str, Fault]] = {
    "layers and Adam": {
        "BatchNorm eps": eps_of_keras,
        "kernel not flipped": kernel_as_flux_has_it,
        "beta1": beta_of_the_paper,
    },
    "loss, clamp and slope": {
        "leaky slope": leak,
        "sum instead of mean": summed_loss,
        "weights clipped": clipped_weights,
    },
}


@pytest.mark.parametrize("port", PORTS)
def test_each_of_three_faults_is_found_in_turn(port: str, pygan: Pygan, monkeypatch: pytest.MonkeyPatch) -> None:
    left = dict(PORTS[port])
    while left:
        faults = list(left.values())

        def plant(stack: TorchStack, faults: list[Fault] = faults) -> None:
            for fault in faults:
                fault(stack)

        offered(monkeypatch, planted(plant))
        code, out, _ = pygan("parity", "torch-faulty", "recorded", "--levels", "1,3-7", "--steps", 3)
        assert code == 1
        named = [name for name in left if f"probable cause: {name}" in out]
        assert len(named) == 1, out
        assert CAUSES[named[0]] in " ".join(out.split()), "what to look at is told"
        del left[named[0]]
    offered(monkeypatch, planted())
    code, out, _ = pygan("parity", "torch-faulty", "recorded", "--levels", "1,3-7", "--steps", 3)
    assert code == 0 and "agree over" in out.splitlines()[-1]
