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
from pygan.traces import Trace

FUNCTION, ROUNDING, ADMITTED, UNOBSERVABLE = "function", "rounding", "admitted rounding", "unobservable"
"""What a fault changes: what is computed, or only how Float32 rounds it, by more than Float32 may or within that; or
nothing that a recording could show."""
KINDS = (FUNCTION, ROUNDING, ADMITTED, UNOBSERVABLE)
PARTIAL, EPOCH, PICTURES = "the partial batch", "the second epoch", "pictures"
"""Where a fault shows first, if that is no fixed step: the recording's own first batch that is not full, the first step
of its second epoch, its first grid of pictures."""


@dataclass(frozen=True)
class Planted:
    """Where a fault was put and how strong it is, as drawn. ``start`` changes the state that both sides start from
    where the fault needs a special one."""

    place: str
    strength: str = ""
    start: Callable[[State], State] | None = None


@dataclass(frozen=True)
class Fault:
    """One bug: ``names`` are the causes that name it right; ``plant`` draws place and strength and puts it in.

    ``shows`` is where it shows first, a step (from 0) or a word; ``kind`` is one of what a fault changes.
    """

    name: str
    names: tuple[str, ...]
    what: str
    plant: Callable[[TorchStack, Generator], Planted] = field(repr=False)
    shows: int | str = 0
    kind: str = FUNCTION

    def __str__(self) -> str:
        return self.name

    def first_step(self, trace: Trace) -> int | None:
        """The first step of ``trace`` that shows it; None where none does."""
        config, images = trace.header.config, trace.header.data["images"]
        epoch = -(-images // config["batch"])
        if self.kind == ADMITTED:
            return None
        if self.kind == ROUNDING and config["dtype"] == "float64":
            return None
        if self.shows == PICTURES:
            return next((one.step for one in trace if {"grid", "values"} <= one.pictures.keys() and one.state), None)
        partial = epoch - 1 if images % config["batch"] else trace.training_steps
        step = {PARTIAL: partial, EPOCH: epoch}.get(self.shows, self.shows)  # type: ignore[call-overload]
        return int(step) if step < trace.training_steps else None

    def kind_in(self, trace: Trace) -> str:
        """What it changes that ``trace`` could show."""
        seen = self.kind == ADMITTED or self.first_step(trace) is not None
        return self.kind if seen else UNOBSERVABLE


def catalogue(faults: list[Fault], *names: str, shows: int | str = 0, kind: str = FUNCTION) -> Callable[[Any], Any]:
    """Decorator: the function becomes a :class:`Fault` of the list, its docstring says what the fault is.

    ``names`` are the right causes; ``shows`` and ``kind``: as the fault has them.
    """

    def add(plant: Callable[[TorchStack, Generator], Planted]) -> Callable[[TorchStack, Generator], Planted]:
        name, what = plant.__name__.replace("_", " "), (plant.__doc__ or "").strip()
        faults.append(Fault(name, names, what, plant, shows, kind))
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


OVERRIDDEN = ("step", "batch_hashes", "grid", "generate")
"""Methods of a stack that a fault may put something in the place of."""


def through(stack: TorchStack, context: Callable[[Any, Tensor], Context]) -> None:
    """Every step of ``stack`` on a batch ``real`` runs in ``context(run, real)``."""
    recipe: Any = stack._recipe

    def train_step(run: Any, real: Tensor) -> None:
        recipe.train_step(context(run, real), real)

    stack._recipe = SimpleNamespace(train_step=train_step, pictures=recipe.pictures)  # type: ignore[assignment]
