"""What a planted bug is, and the means by which torch ones are put into a stack from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.stacks.torch_stack import TorchStack
from pygan.state import State


@dataclass(frozen=True)
class Planted:
    """Where a fault was put and how strong it is, as drawn. ``start`` changes the state that both sides start from
    where the fault needs a special one."""

    place: str
    strength: str = ""
    start: Callable[[State], State] | None = None


@dataclass(frozen=True)
class Fault:
    """One bug: ``names`` are the causes that name it right; ``plant`` draws place and strength and puts it in."""

    name: str
    names: tuple[str, ...]
    what: str
    plant: Callable[[TorchStack, Generator], Planted] = field(repr=False)
    first_step: int = 0

    def __str__(self) -> str:
        return self.name


def catalogue(faults: list[Fault], *names: str, first_step: int = 0) -> Callable[[Any], Any]:
    """Decorator: the function becomes a :class:`Fault` of the list, its docstring says what the fault is.

    ``names`` are the right causes; ``first_step`` is the step (from 0) before which nothing can be seen of it.
    """

    def add(plant: Callable[[TorchStack, Generator], Planted]) -> Callable[[TorchStack, Generator], Planted]:
        name, what = plant.__name__.replace("_", " "), (plant.__doc__ or "").strip()
        faults.append(Fault(name, names, what, plant, first_step))
        return plant

    return add


# --- where ---------------------------------------------------------------------------------------------------


def layers(stack: TorchStack, *kinds: type[nn.Module]) -> dict[str, nn.Module]:
    """Layers of any of ``kinds`` by ``network.layer``."""
    return {
        f"{name}.{path}": layer
        for name, network in stack.networks.items()
        for path, layer in network.named_modules()
        if isinstance(layer, kinds)
    }


def pick(rng: Generator, items: Mapping[str, Any] | Iterable[str]) -> Any:
    """One key of ``items`` by chance, with its value where there is one."""
    keys = sorted(items)
    key = keys[int(rng.integers(len(keys)))]
    return (key, items[key]) if isinstance(items, Mapping) else key


def factor(rng: Generator, low: float, high: float) -> float:
    """A factor by chance, log-uniform in ``low .. high``, or its inverse."""
    size = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return size if rng.integers(2) else 1 / size


def shuffled(rng: Generator, count: int) -> np.ndarray:
    """An order of ``0 .. count - 1`` by chance, never the identity."""
    while True:
        order = rng.permutation(count)
        if not np.array_equal(order, np.arange(count)):
            return order


# --- how -----------------------------------------------------------------------------------------------------


def rewire(layer: nn.Module, forward: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> None:
    """``layer(x)`` becomes ``forward(own, x)``, ``own`` being its own function. Type, hooks and names stay."""
    own = layer.forward
    layer.forward = lambda x: forward(own, x)


def with_weight(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """The layer computes with ``change(weight)``; its parameter and the gradient's way to it stay."""

    def forward(_: Any, x: Tensor) -> Tensor:
        weight: Tensor = change(layer.weight)
        if isinstance(layer, nn.ConvTranspose2d):
            return F.conv_transpose2d(x, weight, layer.bias, layer.stride, layer.padding)
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding)
        return F.linear(x, weight, layer.bias)

    rewire(layer, forward)


class Context:
    """A step's context that passes everything on; a fault overrides one method."""

    def __init__(self, run: Any, real: Tensor) -> None:
        self.run, self.real = run, real
        self.config, self.draws = run.config, run.draws
        self.logits: dict[str, Tensor] = {}

    def network(self, name: str) -> nn.Module:
        return self.run.network(name)

    def tensor(self, array: np.ndarray) -> Tensor:
        return self.run.tensor(array)

    def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
        return self.run.call(name, network, x, train=train)

    def record(self, kind: str, name: str, value: Tensor) -> None:
        if kind == "logits":
            self.logits[name] = value
        self.run.record(kind, name, self.loss(name, value) if kind == "loss" else value)

    def update(self, network: str, loss: Tensor) -> None:
        self.run.update(network, self.loss(network, loss))

    def loss(self, network: str, value: Tensor) -> Tensor:
        """The loss of ``network`` in place of the right ``value``."""
        return value


def through(stack: TorchStack, context: Callable[[Any, Tensor], Context]) -> None:
    """Every step of ``stack`` on a batch ``real`` runs in ``context(run, real)``."""
    recipe: Any = stack._recipe

    def train_step(run: Any, real: Tensor) -> None:
        recipe.train_step(context(run, real), real)

    stack._recipe = SimpleNamespace(train_step=train_step, pictures=recipe.pictures)  # type: ignore[assignment]
